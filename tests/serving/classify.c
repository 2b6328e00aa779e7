/* Loads an export with TensorFlow's C library, lists its signatures, and classifies image files. No Python.

     classify EXPORT DOMAIN FILE [DOMAIN FILE ...]

   Prints a line "signature NAME (inputs) -> (outputs)" for each signature, then for each file its domain, its best
   label and that label's probability, divided by tabs. The names of tensors are read from the export's signatures. */

#include "saved_model.h"

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

int main(int argc, char** argv) {
  if (argc < 4 || argc % 2) fail(argv[0], "wants EXPORT DOMAIN FILE [DOMAIN FILE ...]");
  int rows = (argc - 2) / 2;

  Export export = load_export(argv[1]);
  Message all = signatures_of(export), value, signature = {0};
  for (char* name; (name = next_signature(&all, &value));) {
    printf("signature %s (", name);
    list(value, INPUTS);
    printf(") -> (");
    list(value, OUTPUTS);
    printf(")\n");
    if (!strcmp(name, "serving_default")) signature = value;
  }

  TF_Tensor *files = strings(rows, 1), *domains = strings(rows, 1);
  for (int row = 0; row < rows; row++) {
    const char* domain = argv[2 + 2 * row];
    File file = read_file(argv[3 + 2 * row]);
    TF_StringCopy((TF_TString*)TF_TensorData(domains) + row, domain, strlen(domain));
    TF_StringCopy((TF_TString*)TF_TensorData(files) + row, file.bytes, file.length);
  }
  TF_Graph* graph = export.graph;
  TF_Output inputs[] = {tensor(graph, signature, INPUTS, "image_bytes"), tensor(graph, signature, INPUTS, "domain")};
  TF_Output outputs[] = {tensor(graph, signature, OUTPUTS, "label"), tensor(graph, signature, OUTPUTS, "probability")};
  TF_Tensor* sent[] = {files, domains};
  TF_Tensor* answers[2];
  TF_Status* status = TF_NewStatus();
  TF_SessionRun(export.session, NULL, inputs, sent, 2, outputs, answers, 2, NULL, 0, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail("TF_SessionRun", TF_Message(status));

  int top = (int)TF_Dim(answers[0], 1);
  const TF_TString* labels = TF_TensorData(answers[0]);
  const float* probabilities = TF_TensorData(answers[1]);
  for (int row = 0; row < rows; row++) {
    const TF_TString* label = labels + row * top;
    printf("%s\t%.*s\t%.6f\n", argv[2 + 2 * row], (int)TF_StringGetSize(label), TF_StringGetDataPointer(label),
           probabilities[row * top]);
  }

  close_export(export);
  return 0;
}
