/*
 * Opening a shared object that claims to be a step.
 *
 * The file is looked at before dlopen(3) sees it, because the dynamic linker
 * maps what the program headers say: a truncated file would end the process
 * with SIGBUS instead of an error, and a text file gives a message that says
 * nothing.  RTLD_NOW, so that a missing library or function is an error now and
 * not a crash in a job; RTLD_LOCAL, so that steps do not see each other.
 *
 * Then the descriptor: its symbol must be an object of the size it claims, its
 * magic and ABI must be ours, and its structs not larger than ours (they grow
 * only at their ends; see <stepd/step.h>).
 */
#include "step/object.h"
#include "base/fdutil.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REBUILD "build it again with this version's <stepd/step.h> (pkg-config --cflags stepd-step)"

#if __SIZEOF_POINTER__ == 8
#define OUR_CLASS ELFCLASS64
#else
#define OUR_CLASS ELFCLASS32
#endif

static bool looks_like_text(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] < 0x20 && strchr("\t\n\r\f\033", p[i]) == NULL)
			return false;
	return true;
}

/* The header of the running program says what this machine runs. */
static int our_machine(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ElfW(Ehdr) h;
	bool ok = fd >= 0 && read(fd, &h, sizeof h) == (ssize_t)sizeof h;

	sd_close(&fd);
	return ok ? h.e_machine : -1;
}

static int check_header(const ElfW(Ehdr) *h, struct sd_err *err)
{
	int machine = our_machine();

	if (h->e_ident[EI_CLASS] != OUR_CLASS || (machine >= 0 && h->e_machine != machine))
		return sd_err_set(err, SD_ERR_PERMANENT, "was built for another machine (ELF class %d, machine %d)", h->e_ident[EI_CLASS],
				  h->e_machine);
	if (h->e_type == ET_REL) {
		sd_err_set(err, SD_ERR_PERMANENT, "is an object file, not a shared object");
		return sd_err_hint(err, "link it: cc -shared -fPIC …");
	}
	if (h->e_type != ET_DYN)
		return sd_err_set(err, SD_ERR_PERMANENT, "is an ELF file, but not a shared object (type %d)", h->e_type);
	return 0;
}

static int check_segments(int fd, const ElfW(Ehdr) *h, off_t size, struct sd_err *err)
{
	for (unsigned i = 0; i < h->e_phnum; i++) {
		ElfW(Phdr) p;
		off_t at = (off_t)(h->e_phoff + (ElfW(Off))i * h->e_phentsize);

		if (h->e_phentsize != sizeof p || at < 0 || pread(fd, &p, sizeof p, at) != (ssize_t)sizeof p)
			return sd_err_set(err, SD_ERR_PERMANENT, "is truncated or damaged");
		if (p.p_type == PT_LOAD && (p.p_filesz > (ElfW(Xword))size || p.p_offset > (ElfW(Xword))size - p.p_filesz))
			return sd_err_set(err, SD_ERR_PERMANENT, "is truncated (%lld bytes)", (long long)size);
	}
	return 0;
}

static int check_file(int fd, struct sd_err *err)
{
	union {
		ElfW(Ehdr) h;
		unsigned char bytes[sizeof(ElfW(Ehdr))];
	} u;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return sd_err_errno(err, errno, "can not be read");
	if (!S_ISREG(st.st_mode))
		return sd_err_set(err, SD_ERR_PERMANENT, "is not a regular file");
	n = pread(fd, &u, sizeof u, 0);
	if (n < 0)
		return sd_err_errno(err, errno, "can not be read");
	if (n == 0)
		return sd_err_set(err, SD_ERR_PERMANENT, "is empty");
	if (n < SELFMAG || memcmp(u.bytes, ELFMAG, SELFMAG) != 0)
		return sd_err_set(err, SD_ERR_PERMANENT, "is not a shared object%s", looks_like_text(u.bytes, (size_t)n) ? ": it is text" : "");
	if (n < (ssize_t)sizeof u)
		return sd_err_set(err, SD_ERR_PERMANENT, "is truncated (%lld bytes)", (long long)st.st_size);
	return check_header(&u.h, err) < 0 ? -1 : check_segments(fd, &u.h, st.st_size, err);
}

/* dlerror's text without the file's name, which our caller has. */
static int load_error(const char *file, struct sd_err *err)
{
	const char *text = dlerror();
	size_t n = strlen(file);

	if (text == NULL)
		text = "unknown error";
	if (strncmp(text, file, n) == 0 && strncmp(text + n, ": ", 2) == 0)
		text += n + 2;
	return sd_err_set(err, SD_ERR_PERMANENT, "can not be loaded: %s", text);
}

static int check_sizes(const struct stepd_step *s, size_t symbol_size, struct sd_err *err)
{
	if (s->magic != STEPD_MAGIC)
		return sd_err_set(err, SD_ERR_PERMANENT, "has a symbol stepd_step that was not made by STEPD_STEP(…)");
	if (s->abi != STEPD_ABI) {
		sd_err_set(err, SD_ERR_PERMANENT, "was built for version %u of the step interface, this stepd has version %u", s->abi, STEPD_ABI);
		return sd_err_hint(err, REBUILD);
	}
	if (s->step_size > sizeof *s || s->trigger_size > sizeof(struct stepd_trigger) || s->ctx_size > sizeof(struct stepd_ctx) ||
	    s->api_size > sizeof(struct stepd_api)) {
		sd_err_set(err, SD_ERR_PERMANENT, "was built for a newer stepd");
		return sd_err_hint(err, "upgrade stepd, or " REBUILD);
	}
	/* the sizes of the first version of this ABI; there is nothing older */
	if (s->step_size < offsetof(struct stepd_step, handler) + sizeof s->handler ||
	    s->trigger_size < offsetof(struct stepd_trigger, timezone) + sizeof(char *) || s->trigger_size % sizeof(char *) != 0 ||
	    s->step_size > symbol_size)
		return sd_err_set(err, SD_ERR_PERMANENT, "has a damaged descriptor (sizes %u, %u)", s->step_size, s->trigger_size);
	return 0;
}

static int read_descriptor(void *handle, struct stepd_step *out, struct sd_err *err)
{
	const void *at = dlsym(handle, "stepd_step");
	const ElfW(Sym) *symbol = NULL;
	Dl_info info;
	size_t head = offsetof(struct stepd_step, name);

	if (at == NULL) {
		sd_err_set(err, SD_ERR_PERMANENT, "defines no step");
		return sd_err_hint(err, "STEPD_STEP(…) is missing, see stepd_step(3)");
	}
	if (dladdr1(at, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL || ELF64_ST_TYPE(symbol->st_info) != STT_OBJECT ||
	    symbol->st_size < head)
		return sd_err_set(err, SD_ERR_PERMANENT, "has a symbol stepd_step that was not made by STEPD_STEP(…)");
	memset(out, 0, sizeof *out);
	memcpy(out, at, head);
	if (check_sizes(out, symbol->st_size, err) < 0)
		return -1;
	memcpy(out, at, out->step_size);
	return 0;
}

int sd_object_open(const char *file, struct sd_object *o, struct sd_err *err)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	o->handle = NULL;
	if (fd < 0)
		return sd_err_errno(err, errno, "can not be opened");
	rc = check_file(fd, err);
	sd_close(&fd);
	if (rc < 0)
		return -1;
	dlerror();
	o->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (o->handle == NULL)
		return load_error(file, err);
	if (read_descriptor(o->handle, &o->step, err) == 0)
		return 0;
	sd_object_close(o);
	return -1;
}

void sd_object_close(struct sd_object *o)
{
	if (o->handle != NULL)
		dlclose(o->handle);
	o->handle = NULL;
}

bool sd_object_trigger(const struct sd_object *o, size_t index, struct stepd_trigger *trigger)
{
	const char *at = (const char *)(const void *)o->step.triggers;

	if (at == NULL || index > SD_TRIGGERS_MAX)
		return false;
	memset(trigger, 0, sizeof *trigger);
	memcpy(trigger, at + index * o->step.trigger_size, o->step.trigger_size);
	return trigger->type != STEPD_TRIGGER_NONE;
}
