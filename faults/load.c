/* Asks an export from several threads with TensorFlow's C library, checks all answers, and changes exports as it is told.

     load SEED THREADS TOLERANCE FILE [FILE ...]

   Reads lines "NUMBER EXPORT EXPECTED" from its input: the export is loaded and asked from then on, and the one before
   is closed when its last answer is there. EXPECTED is a file of words: how many domains, images and absent names; these
   names; then each domain's name, how many classes it has, their labels, and a probability for each image and class.

   Prints a line "came NUMBER" for each export, "closed NUMBER", and for each request what came of it, its images, its
   microseconds, and why: "answered", "warmed" (the same, of an export that is not served yet), "refused" (of a malformed
   one, as it must be), "wrong", "lost". Ends with its input, when all requests are answered. */

#include <math.h>
#include <pthread.h>
#include <time.h>

#include "saved_model.h"

enum { ONE_IN = 50, TOP = 5, MOST_ROWS = 64 };
static const int ROWS[] = {1, 16, 64, 64};

typedef struct {
  char* name;
  int classes;
  char** labels;
  float* probabilities; /* images x classes */
} Domain;

typedef struct {
  Export export;
  TF_Output inputs[2], outputs[3];
  int number, users, num_domains, num_absent, top;
  Domain* domains;
  char** absent;
} Version;

static int num_images;
static File* images;
static uint64_t seed;
static float tolerance;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static Version* current;
static int ended;

static char* word(FILE* stream) {
  char* read = NULL;
  if (fscanf(stream, "%ms", &read) != 1) fail("EXPECTED", "ends early");
  return read;
}

static int number_in(FILE* stream) {
  char* read = word(stream);
  int number = atoi(read);
  free(read);
  return number;
}

static Version* load_version(int number, const char* path, const char* expected) {
  Version* version = calloc(1, sizeof(Version));
  version->number = number;
  FILE* stream = fopen(expected, "r");
  if (!stream) fail(expected, "cannot be opened");
  version->num_domains = number_in(stream);
  if (number_in(stream) != num_images) fail(expected, "has other images");
  version->num_absent = number_in(stream);
  version->absent = calloc(version->num_absent, sizeof(char*));
  for (int each = 0; each < version->num_absent; each++) version->absent[each] = word(stream);
  version->domains = calloc(version->num_domains, sizeof(Domain));
  for (Domain* domain = version->domains; domain < version->domains + version->num_domains; domain++) {
    domain->name = word(stream);
    domain->classes = number_in(stream);
    domain->labels = calloc(domain->classes, sizeof(char*));
    for (int label = 0; label < domain->classes; label++) domain->labels[label] = word(stream);
    int count = num_images * domain->classes;
    domain->probabilities = calloc(count, sizeof(float));
    for (int each = 0; each < count; each++) {
      if (fscanf(stream, "%f", domain->probabilities + each) != 1) fail(expected, "ends early");
    }
    if (domain->classes > version->top) version->top = domain->classes < TOP ? domain->classes : TOP;
  }
  fclose(stream);

  version->export = load_export(path);
  Message all = signatures_of(version->export), value, signature = {0};
  for (char* name; (name = next_signature(&all, &value));) {
    if (!strcmp(name, "serving_default")) signature = value;
    free(name);
  }
  TF_Graph* graph = version->export.graph;
  version->inputs[0] = tensor(graph, signature, INPUTS, "image_bytes");
  version->inputs[1] = tensor(graph, signature, INPUTS, "domain");
  version->outputs[0] = tensor(graph, signature, OUTPUTS, "label");
  version->outputs[1] = tensor(graph, signature, OUTPUTS, "probability");
  version->outputs[2] = tensor(graph, signature, OUTPUTS, "class_id");
  return version;
}

static void close_version(Version* version) {
  close_export(version->export);
  for (Domain* domain = version->domains; domain < version->domains + version->num_domains; domain++) {
    for (int label = 0; label < domain->classes; label++) free(domain->labels[label]);
    free(domain->labels);
    free(domain->probabilities);
    free(domain->name);
  }
  for (int each = 0; each < version->num_absent; each++) free(version->absent[each]);
  free(version->absent);
  free(version->domains);
  free(version);
}

static uint64_t draw(uint64_t* state) { /* splitmix64 */
  uint64_t mixed = (*state += 0x9e3779b97f4a7c15);
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

static int below(uint64_t* state, int bound) { return (int)(draw(state) % bound); }

static int greater_first(const void* one, const void* other) {
  float first = *(const float*)one, second = *(const float*)other;
  return (first < second) - (first > second);
}

/* Says in `why` what is wrong with a row of an answer, if anything is. */
static void check_row(const Version* version, const Domain* domain, int image, const TF_TString* labels,
                      const float* probabilities, const int32_t* ids, char* why, size_t size) {
  const float* wanted = domain->probabilities + image * domain->classes;
  float best[domain->classes];
  memcpy(best, wanted, sizeof(best));
  qsort(best, domain->classes, sizeof(float), greater_first);
  for (int place = 0; place < version->top; place++) {
    int filled = place >= domain->classes, id = ids[place];
    const char* label = TF_StringGetDataPointer(labels + place);
    size_t length = TF_StringGetSize(labels + place);
    if (filled ? id != -1 || probabilities[place] != 0 || length
               : id < 0 || id >= domain->classes || !(fabsf(probabilities[place] - best[place]) <= tolerance) ||
                     !(fabsf(probabilities[place] - wanted[id]) <= tolerance) ||
                     length != strlen(domain->labels[id]) || memcmp(label, domain->labels[id], length)) {
      snprintf(why, size, "version %d, domain %s, image %d, place %d: class %d %.*s, %g; expected %g", version->number,
               domain->name, image, place, id, (int)length, label, probabilities[place], filled ? 0 : best[place]);
      return;
    }
  }
}

static const struct {
  const char* bytes;
  size_t length;
  const char* reason;
} DAMAGED[] = {
    {"", 0, "is no JPEG"},
    {"no image", 8, "is no JPEG"},
    {"\xff\xd8\xff", 3, "is damaged"},
    {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0", 24, "has 65536x65536 pixels"},
};

enum { DAMAGED_FILE, ABSENT_DOMAIN, FEWER_DOMAINS, OTHER_RANK, OTHER_TYPE, KINDS };

/* Sends one request, malformed or not, and prints what came of it; `sound` is the word for one that is answered. */
static void ask(const Version* version, uint64_t* state, int malformed, const char* sound) {
  int rows = ROWS[below(state, sizeof(ROWS) / sizeof(*ROWS))], kind = malformed ? below(state, KINDS) : -1;
  int row_of_fault = below(state, rows), chosen[MOST_ROWS];
  const Domain* domain[MOST_ROWS];
  char reason[256] = "", why[2000] = "";
  TF_Tensor *files = strings(rows, 1 + (kind == OTHER_RANK)), *domains = strings(rows - (kind == FEWER_DOMAINS), 1);
  for (int row = 0; row < rows; row++) {
    chosen[row] = below(state, num_images);
    domain[row] = version->domains + below(state, version->num_domains);
    const char *name = domain[row]->name, *bytes = images[chosen[row]].bytes;
    size_t length = images[chosen[row]].length;
    if (row == row_of_fault && kind == DAMAGED_FILE) {
      int which = below(state, sizeof(DAMAGED) / sizeof(*DAMAGED));
      bytes = DAMAGED[which].bytes, length = DAMAGED[which].length;
      snprintf(reason, sizeof(reason), "row %d: the image of %zu bytes for domain [%s] %s", row, length, name,
               DAMAGED[which].reason);
    }
    if (row == row_of_fault && kind == ABSENT_DOMAIN) {
      name = version->absent[below(state, version->num_absent)];
      snprintf(reason, sizeof(reason), "row %d: unknown domain [%s]", row, name);
    }
    /* What views show outlives the request. */
    TF_StringAssignView((TF_TString*)TF_TensorData(files) + row, bytes, length);
    if (row < rows - (kind == FEWER_DOMAINS)) {
      TF_StringAssignView((TF_TString*)TF_TensorData(domains) + row, name, strlen(name));
    }
  }
  if (kind == FEWER_DOMAINS) {
    snprintf(reason, sizeof(reason), "want one row per image; received %d and %d", rows, rows - 1);
  }
  if (kind == OTHER_RANK) snprintf(reason, sizeof(reason), "hape");
  if (kind == OTHER_TYPE) {
    int64_t shape[] = {rows};
    TF_DeleteTensor(domains);
    domains = TF_AllocateTensor(TF_INT64, shape, 1, rows * sizeof(int64_t));
    memset(TF_TensorData(domains), 0, rows * sizeof(int64_t));
    snprintf(reason, sizeof(reason), "int64");
  }

  TF_Status* status = TF_NewStatus();
  TF_Tensor *sent[] = {files, domains}, *answers[3] = {NULL};
  struct timespec began, done;
  clock_gettime(CLOCK_MONOTONIC, &began);
  TF_SessionRun(version->export.session, NULL, version->inputs, sent, 2, version->outputs, answers, 3, NULL, 0, NULL,
                status);
  clock_gettime(CLOCK_MONOTONIC, &done);
  const char* what = malformed ? "refused" : sound;
  if (TF_GetCode(status) != TF_OK) {
    if (!malformed) what = "lost";
    if (!malformed || !strstr(TF_Message(status), reason)) {
      if (malformed) what = "wrong";
      snprintf(why, sizeof(why), "version %d, expected %s; received %s", version->number,
               malformed ? reason : "an answer", TF_Message(status));
    }
  } else if (malformed) {
    what = "wrong";
    snprintf(why, sizeof(why), "version %d answered; expected %s", version->number, reason);
  } else {
    const TF_TString* labels = TF_TensorData(answers[0]);
    const float* probabilities = TF_TensorData(answers[1]);
    const int32_t* ids = TF_TensorData(answers[2]);
    for (int output = 0; output < 3 && !*why; output++) {
      if (TF_NumDims(answers[output]) != 2 || TF_Dim(answers[output], 0) != rows ||
          TF_Dim(answers[output], 1) != version->top) {
        snprintf(why, sizeof(why), "version %d: output %d is of another shape", version->number, output);
      }
    }
    for (int row = 0; row < rows && !*why; row++) {
      int at = row * version->top;
      check_row(version, domain[row], chosen[row], labels + at, probabilities + at, ids + at, why, sizeof(why));
    }
    if (*why) what = "wrong";
  }
  for (char* at = why; *at; at++) {
    if (*at == '\n') *at = ' ';
  }
  long micros = (done.tv_sec - began.tv_sec) * 1000000 + (done.tv_nsec - began.tv_nsec) / 1000;
  printf("%s %d %ld %s\n", what, malformed ? 0 : rows, micros, why);

  for (int output = 0; output < 3; output++) {
    if (answers[output]) TF_DeleteTensor(answers[output]);
  }
  TF_DeleteTensor(files);
  TF_DeleteTensor(domains);
  TF_DeleteStatus(status);
}

static void* work(void* argument) {
  uint64_t number = (uint64_t)(uintptr_t)argument, state = seed * 1000003 + number;
  for (uint64_t turn = 0;; turn++) {
    pthread_mutex_lock(&mutex);
    if (ended) break;
    Version* version = current;
    version->users++;
    pthread_mutex_unlock(&mutex);
    ask(version, &state, turn % ONE_IN == number, "answered");
    pthread_mutex_lock(&mutex);
    if (!--version->users) pthread_cond_signal(&left);
    pthread_mutex_unlock(&mutex);
  }
  pthread_mutex_unlock(&mutex);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc < 5) fail(argv[0], "wants SEED THREADS TOLERANCE FILE [FILE ...]");
  setvbuf(stdout, NULL, _IOLBF, 1 << 16);
  seed = strtoull(argv[1], NULL, 10);
  int num_threads = atoi(argv[2]);
  tolerance = strtof(argv[3], NULL);
  num_images = argc - 4;
  images = calloc(num_images, sizeof(File));
  for (int image = 0; image < num_images; image++) images[image] = read_file(argv[4 + image]);

  pthread_t threads[num_threads];
  char *path, *expected;
  for (int number; scanf("%d %ms %ms", &number, &path, &expected) == 3; free(path), free(expected)) {
    Version* version = load_version(number, path, expected);
    uint64_t state = seed;
    ask(version, &state, 0, "warmed"); /* the first request prepares the graph, for seconds */
    pthread_mutex_lock(&mutex);
    Version* before = current;
    current = version;
    pthread_mutex_unlock(&mutex);
    printf("came %d\n", number);
    if (!before) {
      for (int each = 0; each < num_threads; each++) {
        if (pthread_create(threads + each, NULL, work, (void*)(uintptr_t)each)) fail("a thread", "cannot be made");
      }
      continue;
    }
    pthread_mutex_lock(&mutex);
    while (before->users) pthread_cond_wait(&left, &mutex);
    pthread_mutex_unlock(&mutex);
    printf("closed %d\n", before->number);
    close_version(before);
  }
  pthread_mutex_lock(&mutex);
  ended = 1;
  pthread_mutex_unlock(&mutex);
  if (current) {
    for (int each = 0; each < num_threads; each++) pthread_join(threads[each], NULL);
    close_version(current);
  }
  return 0;
}
