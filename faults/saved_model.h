/* A SavedModel by TensorFlow's C library, and its signatures, which are read from its meta graph. No Python.
   For C programs of one file. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static void fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* A piece of a serialized protocol buffer, read field by field. */
typedef struct {
  const uint8_t *at, *end;
} Message;

static uint64_t varint(Message* message) {
  uint64_t value = 0;
  for (int shift = 0; message->at < message->end && shift < 64; shift += 7) {
    uint8_t byte = *message->at++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) break;
  }
  return value;
}

/* Reads up to the next field that is a message or a string; returns its number, or 0 at the end. */
static int next_field(Message* message, Message* field) {
  while (message->at < message->end) {
    uint64_t key = varint(message);
    switch (key & 7) {
      case 0: varint(message); break;
      case 1: message->at += 8; break;
      case 5: message->at += 4; break;
      case 2: {
        uint64_t length = varint(message);
        if (length > (uint64_t)(message->end - message->at)) fail("meta graph", "damaged");
        field->at = message->at;
        field->end = message->at += length;
        return (int)(key >> 3);
      }
      default: fail("meta graph", "unknown wire type");
    }
  }
  return 0;
}

static char* text(Message field) {
  size_t length = field.end - field.at;
  char* copy = malloc(length + 1);
  memcpy(copy, field.at, length);
  copy[length] = 0;
  return copy;
}

/* Splits an entry of a map<string, message>. */
static char* entry(Message message, Message* value) {
  char* key = NULL;
  Message field;
  for (int number; (number = next_field(&message, &field));) {
    if (number == 1) key = text(field);
    if (number == 2) *value = field;
  }
  return key;
}

enum { INPUTS = 1, OUTPUTS = 2, SIGNATURES = 5 };

/* Returns the tensor that a signature calls `key`. */
static TF_Output tensor(TF_Graph* graph, Message signature, int part, const char* key) {
  Message field, info, name;
  for (int number; (number = next_field(&signature, &field));) {
    if (number != part || strcmp(entry(field, &info), key)) continue;
    while ((number = next_field(&info, &name)) && number != 1) {
    }
    char* full = text(name);
    char* colon = strrchr(full, ':');
    *colon = 0;
    TF_Output output = {TF_GraphOperationByName(graph, full), atoi(colon + 1)};
    if (!output.oper) fail(full, "no such operation");
    return output;
  }
  fail(key, "not in the signature");
  exit(1);
}

/* Reads up to the next signature of a meta graph; returns its name, or NULL at the end. */
static char* next_signature(Message* meta_graph, Message* signature) {
  Message field;
  for (int number; (number = next_field(meta_graph, &field));) {
    if (number == SIGNATURES) return entry(field, signature);
  }
  return NULL;
}

/* An export that is loaded. */
typedef struct {
  TF_Session* session;
  TF_Graph* graph;
  TF_Buffer* meta_graph;
} Export;

static Export load_export(const char* path) {
  TF_Status* status = TF_NewStatus();
  TF_SessionOptions* options = TF_NewSessionOptions();
  Export export = {NULL, TF_NewGraph(), TF_NewBuffer()};
  const char* tags[] = {"serve"};
  export.session =
      TF_LoadSessionFromSavedModel(options, NULL, path, tags, 1, export.graph, export.meta_graph, status);
  if (TF_GetCode(status) != TF_OK) fail(path, TF_Message(status));
  TF_DeleteSessionOptions(options);
  TF_DeleteStatus(status);
  return export;
}

static void close_export(Export export) {
  TF_Status* status = TF_NewStatus();
  TF_CloseSession(export.session, status);
  if (TF_GetCode(status) != TF_OK) fail("TF_CloseSession", TF_Message(status));
  TF_DeleteSession(export.session, status);
  if (TF_GetCode(status) != TF_OK) fail("TF_DeleteSession", TF_Message(status));
  TF_DeleteGraph(export.graph);
  TF_DeleteBuffer(export.meta_graph);
  TF_DeleteStatus(status);
}

static Message signatures_of(Export export) {
  const uint8_t* bytes = export.meta_graph->data;
  return (Message){bytes, bytes + export.meta_graph->length};
}

/* Returns a tensor of `rows` strings, which are to be set; of shape (rows,), or (rows, 1) where `rank` is 2. */
static TF_Tensor* strings(int rows, int rank) {
  int64_t shape[] = {rows, 1};
  TF_Tensor* made = TF_AllocateTensor(TF_STRING, shape, rank, rows * sizeof(TF_TString));
  for (int row = 0; row < rows; row++) TF_StringInit((TF_TString*)TF_TensorData(made) + row);
  return made;
}

/* A file in memory. */
typedef struct {
  char* bytes;
  size_t length;
} File;

static File read_file(const char* path) {
  FILE* stream = fopen(path, "rb");
  if (!stream) fail(path, "cannot be opened");
  fseek(stream, 0, SEEK_END);
  File file = {NULL, ftell(stream)};
  rewind(stream);
  file.bytes = malloc(file.length);
  if (fread(file.bytes, 1, file.length, stream) != file.length) fail(path, "cannot be read");
  fclose(stream);
  return file;
}
