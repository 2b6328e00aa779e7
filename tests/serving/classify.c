/* Loads an export with TensorFlow's C library, lists its signatures, and classifies image files. No Python.

     classify EXPORT DOMAIN FILE [DOMAIN FILE ...]

   Prints a line "signature NAME (inputs) -> (outputs)" for each signature, then for each file its domain, its best
   label and that label's probability, divided by tabs. The names of tensors are read from the export's signatures. */

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

/* Prints the keys of a signature's inputs or outputs. */
static void list(Message signature, int part) {
  Message field, value;
  const char* comma = "";
  for (int number; (number = next_field(&signature, &field));) {
    if (number != part) continue;
    printf("%s%s", comma, entry(field, &value));
    comma = ", ";
  }
}

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

static TF_Tensor* strings(int rows) {
  int64_t shape[] = {rows};
  TF_Tensor* made = TF_AllocateTensor(TF_STRING, shape, 1, rows * sizeof(TF_TString));
  for (int row = 0; row < rows; row++) TF_StringInit((TF_TString*)TF_TensorData(made) + row);
  return made;
}

static void set_to_file(TF_TString* string, const char* path) {
  FILE* file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened");
  fseek(file, 0, SEEK_END);
  long length = ftell(file);
  rewind(file);
  char* bytes = malloc(length);
  if (fread(bytes, 1, length, file) != (size_t)length) fail(path, "cannot be read");
  fclose(file);
  TF_StringCopy(string, bytes, length);
  free(bytes);
}

int main(int argc, char** argv) {
  if (argc < 4 || argc % 2) fail(argv[0], "wants EXPORT DOMAIN FILE [DOMAIN FILE ...]");
  int rows = (argc - 2) / 2;

  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_Buffer* meta_graph = TF_NewBuffer();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, meta_graph, status);
  if (TF_GetCode(status) != TF_OK) fail(argv[1], TF_Message(status));

  const uint8_t* bytes = meta_graph->data;
  Message message = {bytes, bytes + meta_graph->length}, field, value, signature = {0};
  for (int number; (number = next_field(&message, &field));) {
    if (number != SIGNATURES) continue;
    char* name = entry(field, &value);
    printf("signature %s (", name);
    list(value, INPUTS);
    printf(") -> (");
    list(value, OUTPUTS);
    printf(")\n");
    if (!strcmp(name, "serving_default")) signature = value;
  }

  TF_Tensor *files = strings(rows), *domains = strings(rows);
  for (int row = 0; row < rows; row++) {
    const char* domain = argv[2 + 2 * row];
    TF_StringCopy((TF_TString*)TF_TensorData(domains) + row, domain, strlen(domain));
    set_to_file((TF_TString*)TF_TensorData(files) + row, argv[3 + 2 * row]);
  }
  TF_Output inputs[] = {tensor(graph, signature, INPUTS, "image_bytes"), tensor(graph, signature, INPUTS, "domain")};
  TF_Output outputs[] = {tensor(graph, signature, OUTPUTS, "label"), tensor(graph, signature, OUTPUTS, "probability")};
  TF_Tensor* sent[] = {files, domains};
  TF_Tensor* answers[2];
  TF_SessionRun(session, NULL, inputs, sent, 2, outputs, answers, 2, NULL, 0, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail("TF_SessionRun", TF_Message(status));

  int top = (int)TF_Dim(answers[0], 1);
  const TF_TString* labels = TF_TensorData(answers[0]);
  const float* probabilities = TF_TensorData(answers[1]);
  for (int row = 0; row < rows; row++) {
    const TF_TString* label = labels + row * top;
    printf("%s\t%.*s\t%.6f\n", argv[2 + 2 * row], (int)TF_StringGetSize(label), TF_StringGetDataPointer(label),
           probabilities[row * top]);
  }

  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  return 0;
}
