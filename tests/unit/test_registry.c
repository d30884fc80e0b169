/* Discovery and loading: good files, and every way in which a file can be wrong. */
#include "base/fdutil.h"
#include "base/json.h"
#include "step/ctx.h"
#include "step/registry.h"

#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static void write_file(const char *name, const char *text)
{
	char path[256];
	struct sd_err err;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_int_equal(sd_write_file_atomic(path, text, strlen(text), 0644, &err), 0);
}

static void shell(const char *fmt, ...)
{
	char command[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof command, fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

/* Compile a step from its source; flags go to the compiler. */
static void build(const char *name, const char *source, const char *flags)
{
	write_file("source.c", source);
	shell("cd %s && " SD_CC " -w -shared -fPIC -I" SD_STEP_INCLUDE " %s source.c -o %s && rm source.c", dir, flags, name);
}

#define STEP(name_, ...) \
	"#include <stepd/step.h>\n" \
	"static int handle(struct stepd_ctx *ctx) { return STEPD_OK; }\n" \
	"STEPD_STEP(.name = \"" name_ "\", .handler = handle, " #__VA_ARGS__ ");\n"

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/stepd-test-XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	shell("rm -rf %s", dir);
	return 0;
}

struct found {
	struct sd_buf manifest;
	struct sd_step_problems problems;
	char current[512];
	size_t n;
};

/* In a child, as the daemon does it: discovery leaves the files it opened loaded. */
static void discover_in(const char *const *dirs, size_t n, struct found *f)
{
	size_t size = 1 << 20;
	char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	memset(f, 0, sizeof *f);
	if (fork() == 0) {
		f->n = sd_steps_discover(dirs, n, NULL, 0, &f->manifest, &f->problems, f->current, sizeof f->current);
		snprintf(shared, size, "%zu %zu %s%c%s", f->n, f->problems.n, f->manifest.data, 0,
			 f->problems.n > 0 ? f->problems.text.data : "");
		_exit(f->current[0] == '\0' ? 0 : 1);
	}
	assert_true(wait(&status) > 0);
	assert_int_equal(status, 0);
	assert_int_equal(sscanf(shared, "%zu %zu", &f->n, &f->problems.n), 2);
	sd_buf_str(&f->manifest, strchr(shared, '{'));
	sd_buf_str(&f->problems.text, shared + strlen(shared) + 1);
	munmap(shared, size);
	assert_int_equal(sd_json_check(f->manifest.data, f->manifest.len, NULL), 0);
}

static void discover(struct found *f)
{
	const char *dirs[] = {dir};

	discover_in(dirs, 1, f);
}

static void forget(struct found *f)
{
	sd_buf_fini(&f->manifest);
	sd_buf_fini(&f->problems.text);
}

/* Exactly one problem, which names the file and has this text. */
static void expect_problem(const char *file, const char *text)
{
	struct found f;

	discover(&f);
	if (f.problems.n != 1 || strstr(f.problems.text.data, file) == NULL || strstr(f.problems.text.data, text) == NULL)
		fail_msg("expected a problem with %s: %s; got: %s", file, text, f.problems.n > 0 ? f.problems.text.data : "none");
	forget(&f);
}

static void test_good(void **state)
{
	struct sd_err err;
	struct found f;
	struct sd_registry *r;
	size_t index;

	(void)state;
	build("b.so", STEP("Two", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"), STEPD_CRON("*/5 * * * *", .timezone = "Europe/Berlin"))), "");
	build("a.so", STEP("One", .description = "say \"hi\"", .flows = STEPD_LIST("f"), .enqueues = STEPD_LIST("x", "y"),
			   .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/a/:id", .query_schema = STEPD_SCHEMA({"type" : "object"})))),
	      "");
	write_file("README.md", "ignored");
	shell("mkdir %s/sub %s/.hidden && cp %s/a.so %s/.hidden && echo junk > %s/.junk.so", dir, dir, dir, dir, dir);
	build("sub/c.so", STEP("Three", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "");
	discover(&f);
	if (f.problems.n > 0)
		fail_msg("%s", f.problems.text.data);
	assert_int_equal(f.n, 3);
	r = sd_registry_load(f.manifest.data, f.manifest.len, &err);
	assert_non_null(r);
	assert_int_equal(sd_registry_count(r), 3);
	assert_string_equal(sd_step_name(sd_registry_step(r, 0)), "One");
	assert_non_null(sd_registry_find(r, "Two", &index));
	assert_int_equal(index, 1);
	assert_null(sd_registry_find(r, "two", &index));
	assert_null(sd_registry_step(r, 3));
	assert_string_equal(sd_registry_step(r, 0)->mf->description, "say \"hi\"");
	assert_string_equal(sd_registry_step(r, 0)->mf->triggers[0].query_schema, "{\"type\":\"object\"}");
	assert_string_equal(sd_registry_step(r, 0)->mf->enqueues[1], "y");
	assert_string_equal(sd_registry_step(r, 1)->mf->triggers[1].timezone, "Europe/Berlin");
	assert_string_equal(sd_registry_step(r, 2)->mf->name, "Three");
	sd_registry_free(r);
	/* gone since */
	shell("rm %s/b.so", dir);
	assert_null(sd_registry_load(f.manifest.data, f.manifest.len, &err));
	assert_non_null(strstr(err.message, "b.so"));
	/* another step since */
	build("b.so", STEP("Other", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "");
	assert_null(sd_registry_load(f.manifest.data, f.manifest.len, &err));
	assert_non_null(strstr(err.message, "changed"));
	forget(&f);
}

static void test_not_objects(void **state)
{
	(void)state;
	write_file("x.so", "this is no library\n");
	expect_problem("/x.so", "it is text");
	write_file("x.so", "");
	expect_problem("/x.so", "is empty");
	write_file("x.so", "\x7f" "ELF");
	expect_problem("/x.so", "truncated");
	write_file("x.so", "\x01\x02\x03\x04 binary");
	expect_problem("/x.so", "is not a shared object");
	shell("rm %s/x.so && mkfifo %s/x.so", dir, dir);
	expect_problem("/x.so", "not a regular file");
	shell("rm %s/x.so && ln -s nowhere %s/x.so", dir, dir);
	expect_problem("/x.so", "can not be opened");
	shell("rm %s/x.so && cd %s && echo 'int x;' > y.c && " SD_CC " -c y.c -o x.so", dir, dir);
	expect_problem("/x.so", "is an object file");
	shell("cd %s && echo 'int main(void){return 0;}' > y.c && " SD_CC " -no-pie y.c -o x.so", dir);
	expect_problem("/x.so", "not a shared object");
	shell("cd %s && " SD_CC " -fPIE -pie y.c -o x.so", dir);
	expect_problem("/x.so", "can not be loaded");
	build("x.so", STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "");
	shell("cd %s && truncate -s 3000 x.so", dir);
	expect_problem("/x.so", "truncated");
	build("x.so", STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "");
	shell("cd %s && printf '\\003' | dd of=x.so bs=1 seek=18 conv=notrunc status=none", dir); /* e_machine: i386 */
	expect_problem("/x.so", "another machine");
}

static void test_not_steps(void **state)
{
	(void)state;
	build("x.so", "int unrelated;", "");
	expect_problem("/x.so", "defines no step");
	build("x.so", "extern int missing(void); int f(void) { return missing(); }", "");
	expect_problem("/x.so", "undefined symbol: missing");
	shell("cd %s && echo 'int dep;' | " SD_CC " -shared -fPIC -x c - -o libdep.so && echo 'extern int dep; int *p = &dep;' > y.c && " SD_CC
	      " -shared -fPIC y.c -L. -ldep -o x.so && rm libdep.so",
	      dir);
	expect_problem("/x.so", "libdep.so");
	build("x.so", "int stepd_step(void) { return 0; }", "");
	expect_problem("/x.so", "not made by STEPD_STEP");
	build("x.so", "char stepd_step = 'x';", "");
	expect_problem("/x.so", "not made by STEPD_STEP");
	build("x.so", "char stepd_step[1000] = \"something else\";", "");
	expect_problem("/x.so", "not made by STEPD_STEP");
	build("x.so", STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .abi = 99), "");
	expect_problem("/x.so", "version 99");
	build("x.so", STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .api_size = 100000), "");
	expect_problem("/x.so", "newer stepd");
	build("x.so", STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .trigger_size = 3), "");
	expect_problem("/x.so", "damaged");
}

static void test_bad_configs(void **state)
{
	static const struct {
		const char *source, *problem;
	} cases[] = {
		{STEP("", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "name is empty"},
		{STEP("a\\nb", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "control character"},
		{STEP("\\377", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "UTF-8"},
		{STEP("X"), "no triggers"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .handler = NULL), "no handler"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE(""))), "topic is empty"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"), STEPD_QUEUE("t"))), "both for topic"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t", .input = "{"))), "invalid JSON"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t", .input = "[]"))), ".input: must be a schema"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t", .input = "{\"properties\":{\"a\":{\"type\":\"strnig\"}}}"))),
		 ".input: /properties/a/type: must be one of"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/a", .query_schema = "{\"$ref\":\"http://example.com/\"}"))),
		 ".query_schema: /$ref: remote reference"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("FETCH", "/a"))), "method \"FETCH\""},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "a"))), "does not begin"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/a?b"))), "no path has"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/:x/:x"))), "two parameters"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/a/:"))), "without a name"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/a"), STEPD_HTTP("GET", "/a"))), "is already in"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_CRON("61 * * * *"))), "cron expression"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_CRON("0 0 30 2 *"))), "cron expression"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_CRON("* * * * *", .timezone = "Mars/Olympus"))), "time zone"},
		{STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .enqueues = STEPD_LIST("")), ".enqueues"},
		{STEP("X", .triggers = STEPD_TRIGGERS({.type = 77})), "unknown type"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		build("x.so", cases[i].source, "");
		expect_problem("/x.so", cases[i].problem);
	}
}

static void test_many_triggers(void **state)
{
#define CRON_16 "C, C, C, C, C, C, C, C, C, C, C, C, C, C, C, C"
#define CRON_128 CRON_16 ", " CRON_16 ", " CRON_16 ", " CRON_16 ", " CRON_16 ", " CRON_16 ", " CRON_16 ", " CRON_16
#define MANY(more_) "#include <stepd/step.h>\n#define C STEPD_CRON(\"@daily\")\nstatic int handle(struct stepd_ctx *ctx) { return STEPD_OK; }\n" \
	"STEPD_STEP(.name = \"X\", .handler = handle, .triggers = STEPD_TRIGGERS(" CRON_128 ", " CRON_128 more_ "));\n"
	struct found f;

	(void)state;
	build("x.so", MANY(""), "");
	discover(&f);
	assert_int_equal(f.problems.n, 0);
	assert_int_equal(f.n, 1);
	forget(&f);
	build("x.so", MANY(", C"), "");
	expect_problem("/x.so", "source.c:4:1: the step has more than 256 triggers");
}

/* A problem is found in the source: at the trigger's line, where the compiler tells it, else at the step's. */
static void test_place_in_the_source(void **state)
{
	const char *head = "#include <stepd/step.h>\nstatic int handle(struct stepd_ctx *ctx) { return STEPD_OK; }\n";
	char source[1024];

	(void)state;
	snprintf(source, sizeof source,
		 "%sstatic const struct stepd_trigger triggers[] = {\n\tSTEPD_QUEUE(\"t\"),\n\tSTEPD_CRON(\"61 * * * *\"), {0}};\n"
		 "STEPD_STEP(.name = \"X\", .triggers = triggers, .handler = handle);\n", head);
	build("x.so", source, "");
	expect_problem("/x.so", "source.c:5:1: cron expression \"61 * * * *\": field minute");
	snprintf(source, sizeof source, "%sSTEPD_STEP(.name = \"X\",\n\t.triggers = STEPD_TRIGGERS(STEPD_QUEUE(\"\")), .handler = handle);\n", head);
	build("x.so", source, "-ffile-prefix-map=source=order");
	expect_problem("/x.so", "order.c:4:1: trigger 0: the topic is empty (/");
	snprintf(source, sizeof source, "%s\n\nSTEPD_STEP(.name = \"X\", .handler = handle);\n", head);
	build("x.so", source, "");
	expect_problem("/x.so", "source.c:5:1: the step has no triggers");
	/* from before it was recorded */
	build("x.so", STEP("", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .step_size = offsetof(struct stepd_step, source)), "");
	expect_problem("/x.so: the step's name is empty", "");
}

static void test_collisions(void **state)
{
	struct found f;

	(void)state;
	build("a.so", STEP("One", .triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/a/:x/b"))), "");
	build("b.so", STEP("One", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "");
	build("c.so", STEP("Two", .triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/a/:y/b"))), "");
	build("d.so", STEP("Three", .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/a/:y/b"))), "");
	discover(&f);
	assert_int_equal(f.n, 2);
	assert_int_equal(f.problems.n, 2);
	assert_non_null(strstr(f.problems.text.data, "source.c:3:1: a step \"One\" is already in /"));
	assert_non_null(strstr(f.problems.text.data, "/b.so)\n"));
	assert_non_null(strstr(f.problems.text.data, "source.c:3:1: route POST /a/:y/b is already in /"));
	assert_non_null(strstr(f.problems.text.data, "/c.so)\n"));
	forget(&f);
}

static void test_other_kinds(void **state)
{
	const char *dirs[] = {dir, "/nowhere/steps"};
	struct found f;

	(void)state;
	write_file("a.step.ts", "");
	write_file("b.step.js", "");
	write_file("c.step.mjs", "");
	write_file("d_step.py", "");
	write_file("e.step.yaml", "");
	write_file("f.ts", "");
	discover_in(dirs, 2, &f);
	assert_int_equal(f.n, 0);
	assert_string_equal(f.manifest.data, "{\"steps\":[]}");
	assert_int_equal(f.problems.n, 6);
	assert_non_null(strstr(f.problems.text.data, "a.step.ts: TypeScript steps are not supported by this version"));
	assert_non_null(strstr(f.problems.text.data, "d_step.py: Python"));
	assert_non_null(strstr(f.problems.text.data, "/nowhere/steps: the directory can not be read: No such file"));
	forget(&f);
}

/* A file that crashes its loader is named in the shared memory, and left out of the next try. */
static void test_crash_is_named(void **state)
{
	char file[128], *current = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *dirs[] = {dir}, *skip[] = {file};
	struct sd_buf manifest = SD_BUF_INIT;
	struct sd_step_problems problems = {SD_BUF_INIT, 0};
	int status;
	pid_t pid;

	(void)state;
	snprintf(file, sizeof file, "%s/crash.so", dir);
	build("crash.so", "#include <stdlib.h>\n__attribute__((constructor)) static void boom(void) { abort(); }", "");
	build("good.so", STEP("Good", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t"))), "");
	pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		sd_steps_discover(dirs, 1, NULL, 0, &manifest, &problems, current, 4096);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_string_equal(current, file);
	assert_int_equal(sd_steps_discover(dirs, 1, skip, 1, &manifest, &problems, current, 4096), 1);
	assert_int_equal(problems.n, 0);
	assert_string_equal(current, "");
	sd_buf_fini(&manifest);
	sd_buf_fini(&problems.text);
	munmap(current, 4096);
}

/* An object of a past version: smaller structs, and triggers of another stride. */
static void test_smaller_structs(void **state)
{
	struct found f;

	(void)state;
	build("x.so", STEP("X", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("t")), .ctx_size = 8, .api_size = 8), "");
	discover(&f);
	assert_int_equal(f.n, 1);
	forget(&f);
}

/* ---- the sample steps ---- */

static struct sd_registry *samples(void)
{
	const char *dirs[] = {SD_SAMPLES};
	struct sd_registry *r;
	struct sd_err err;
	struct found f;

	discover_in(dirs, 1, &f);
	if (f.problems.n > 0)
		fail_msg("%s", f.problems.text.data);
	assert_int_equal(f.n, 7);
	r = sd_registry_load(f.manifest.data, f.manifest.len, &err);
	assert_non_null(r);
	forget(&f);
	return r;
}

static struct sd_attempt *attempt(const struct sd_step *s, enum sd_trigger trigger, const char *input)
{
	struct sd_attempt *a = sd_attempt_new();

	a->step = s;
	a->trigger = trigger;
	a->job_id = trigger == SD_TRIGGER_HTTP ? 0 : 1;
	a->attempt = a->max_attempts = 1;
	a->trace_id = "0b0e4b6e-53c4-4a68-8a39-5d4fdb8c11ab";
	a->input = input;
	a->input_len = strlen(input);
	return a;
}

static struct sd_attempt *run(const struct sd_registry *r, const char *step, enum sd_trigger trigger, const char *input)
{
	const struct sd_step *s = sd_registry_find(r, step, NULL);
	struct sd_attempt *a;

	assert_non_null(s);
	a = attempt(s, trigger, input);
	while (s->mf->triggers[a->trigger_index].type != trigger)
		a->trigger_index++;
	sd_step_run(s, a, NULL);
	return a;
}

static char *enqueued(const struct sd_attempt *a, const char *topic)
{
	cJSON *tree;
	char *data;

	assert_int_equal(a->nenqueues, 1);
	tree = sd_json_parse(a->enqueues.data, a->enqueues.len, NULL);
	assert_non_null(tree);
	assert_string_equal(sd_json_str(tree, "topic", ""), topic);
	data = cJSON_PrintUnformatted(sd_json_get(tree, "data"));
	cJSON_Delete(tree);
	return data;
}

static void test_order_workflow(void **state)
{
	struct sd_registry *r = samples();
	struct sd_attempt *a;
	char *order, *notification;

	(void)state;
	a = run(r, "CreateOrder", SD_TRIGGER_HTTP, "{\"pet\":{\"name\":\"Rex\",\"photoUrl\":\"x\"},\"foodOrder\":{\"quantity\":2}}");
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_int_equal(a->reply.status, 200);
	assert_non_null(strstr(a->reply.body, "\"name\":\"Rex\""));
	order = enqueued(a, "process-food-order");
	assert_non_null(strstr(order, "{\"quantity\":2,\"email\":\"customer@example.com\",\"petId\":\""));
	assert_int_equal(a->nstates, 1);
	sd_attempt_free(a);

	a = run(r, "ProcessFoodOrder", SD_TRIGGER_QUEUE, order);
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	notification = enqueued(a, "notification");
	assert_non_null(strstr(notification, "\"templateData\":{\"orderId\":\""));
	assert_non_null(strstr(notification, "\"quantity\":2,\"status\":\"placed\"}}"));
	assert_non_null(strstr(a->states.data, "\"group\":\"orders\""));
	sd_attempt_free(a);

	a = run(r, "Notification", SD_TRIGGER_QUEUE, notification);
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_non_null(strstr(a->logs.data, "\"email\":\"cu******@example.com\",\"templateId\":\"new-order\""));
	sd_attempt_free(a);
	free(order);
	free(notification);
	sd_registry_free(r);
}

static void test_other_samples(void **state)
{
	struct sd_registry *r = samples();
	struct sd_attempt *a;

	(void)state;
	a = run(r, "CreateOrder", SD_TRIGGER_HTTP, "{\"pet\":{\"name\":\"Rex\",\"photoUrl\":\"x\"}}");
	assert_int_equal(a->nenqueues, 0);
	assert_int_equal(a->reply.status, 200);
	sd_attempt_free(a);
	a = run(r, "CreateOrder", SD_TRIGGER_HTTP, "[]");
	assert_int_equal(a->outcome, SD_OUTCOME_INVALID_INPUT);
	assert_string_equal(a->error, "invalid input: it must be object, not array");
	assert_int_equal(a->nstates, 0);
	sd_attempt_free(a);
	a = run(r, "ProcessOrder", SD_TRIGGER_HTTP, "{\"email\":1,\"quantity\":\"2\"}");
	assert_int_equal(a->outcome, SD_OUTCOME_INVALID_INPUT);
	assert_string_equal(a->error, "invalid input: /email must be string, not integer; /quantity must be number, not string; /petId is required");
	sd_attempt_free(a);
	a = run(r, "ProcessOrder", SD_TRIGGER_HTTP, "{\"email\":\"a@b\",\"quantity\":1,\"petId\":\"p\"}");
	assert_int_equal(a->reply.status, 200);
	assert_memory_equal(a->reply.body, "{\"success\":true,\"order\":{\"id\":\"", 31);
	sd_attempt_free(a);
	a = run(r, "ProcessOrder", SD_TRIGGER_QUEUE, "{\"email\":\"a@b\",\"quantity\":1,\"petId\":\"p\"}");
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_int_equal(a->nstates, 1);
	assert_non_null(strstr(a->logs.data, "\"triggerType\":\"queue\""));
	sd_attempt_free(a);
	a = run(r, "ProcessOrder", SD_TRIGGER_QUEUE, "7");
	assert_int_equal(a->outcome, SD_OUTCOME_INVALID_INPUT);
	assert_string_equal(a->violations, "{\"pointer\":\"\",\"keyword\":\"type\",\"message\":\"must be object, not integer\"}");
	assert_int_equal(a->nlogs, 0);
	sd_attempt_free(a);
	a = run(r, "ProcessGreeting", SD_TRIGGER_QUEUE,
		"{\"timestamp\":\"T\",\"appName\":\"App\",\"greetingPrefix\":\"Hello\",\"requestId\":\"r1\"}");
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_non_null(strstr(a->states.data, "\"key\":\"r1\",\"value\":{\"greeting\":\"Hello App!\",\"processedAt\":\""));
	sd_attempt_free(a);
	a = run(r, "HandlePeriodicJob", SD_TRIGGER_CRON, "null");
	assert_int_equal(a->nenqueues, 1);
	sd_attempt_free(a);
	sd_registry_free(r);
}

static void test_batch_of_10000(void **state)
{
	struct sd_registry *r = samples();
	struct sd_err err;
	struct sd_runner *runner = sd_runner_new(r, NULL, &err);
	struct sd_buf stored = SD_BUF_INIT;
	struct sd_attempt *a;

	(void)state;
	assert_non_null(runner);
	sd_buf_chr(&stored, '{');
	for (int i = 0; i < 10000; i++)
		sd_buf_printf(&stored, "%s\"item-%05d\": {\"id\": %d, \"name\": \"item number %d\"}", i > 0 ? ", " : "", i, i, i);
	sd_buf_chr(&stored, '}');
	sd_runner_give(runner, attempt(sd_registry_find(r, "BatchProcessor", NULL), SD_TRIGGER_CRON, "null"));
	while ((a = sd_runner_take(runner)) == NULL) {
		struct pollfd p = {.fd = sd_runner_fd(runner), .events = POLLIN};
		struct sd_ask *ask;

		assert_int_equal(poll(&p, 1, 20000), 1);
		sd_runner_clear(runner);
		ask = sd_runner_ask(runner);
		if (ask != NULL) {
			assert_int_equal(ask->kind, SD_ASK_STATE_LIST);
			assert_string_equal(ask->group, "pending-items");
			ask->json = sd_arena_memdup(ask->attempt->arena, stored.data, stored.len);
			sd_runner_answer(runner, ask);
		}
	}
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_int_equal(a->nenqueues, 10000);
	assert_non_null(strstr(a->logs.data, "Found 10000 pending items"));
	assert_true(a->finished_us - a->started_us < 30000000); /* slow machines, valgrind; it takes 30 ms */
	sd_attempt_free(a);
	sd_buf_fini(&stored);
	sd_runner_free(runner);
	sd_registry_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_not_objects, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_not_steps, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_bad_configs, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_many_triggers, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_place_in_the_source, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_collisions, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_other_kinds, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_crash_is_named, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_smaller_structs, make_dir, remove_dir),
		cmocka_unit_test(test_order_workflow),
		cmocka_unit_test(test_other_samples),
		cmocka_unit_test(test_batch_of_10000),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
