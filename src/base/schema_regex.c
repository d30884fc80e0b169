/*
 * Patterns: ECMA-262's syntax, as far as PCRE2 has it, and none of what PCRE2
 * has beyond it.  PCRE2's own escapes (\A, \Q, \K) and verbs are refused, so
 * that a pattern means here what it means to the tools it came from.
 */
#include "base/schema_impl.h"

#include <string.h>

#define PATTERN_MAX 32768
#define SPACES "\\s\\u00a0\\ufeff\\u2028\\u2029\\p{Zs}" /* ECMA-262's \s */

/* ECMA-262 knows the categories by their long names too, PCRE2 10.42 by the short ones alone. */
static const struct {
	const char *name, *category;
} categories[] = {
	{"Letter", "L"}, {"Cased_Letter", "L&"}, {"LC", "L&"}, {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"},
	{"Titlecase_Letter", "Lt"}, {"Modifier_Letter", "Lm"}, {"Other_Letter", "Lo"}, {"Mark", "M"}, {"Nonspacing_Mark", "Mn"},
	{"Spacing_Mark", "Mc"}, {"Enclosing_Mark", "Me"}, {"Number", "N"}, {"Decimal_Number", "Nd"}, {"digit", "Nd"},
	{"Letter_Number", "Nl"}, {"Other_Number", "No"}, {"Symbol", "S"}, {"Math_Symbol", "Sm"}, {"Currency_Symbol", "Sc"},
	{"Modifier_Symbol", "Sk"}, {"Other_Symbol", "So"}, {"Punctuation", "P"}, {"punct", "P"}, {"Connector_Punctuation", "Pc"},
	{"Dash_Punctuation", "Pd"}, {"Open_Punctuation", "Ps"}, {"Close_Punctuation", "Pe"}, {"Initial_Punctuation", "Pi"},
	{"Final_Punctuation", "Pf"}, {"Other_Punctuation", "Po"}, {"Separator", "Z"}, {"Space_Separator", "Zs"},
	{"Line_Separator", "Zl"}, {"Paragraph_Separator", "Zp"}, {"Other", "C"}, {"Control", "Cc"}, {"cntrl", "Cc"}, {"Format", "Cf"},
	{"Surrogate", "Cs"}, {"Private_Use", "Co"}, {"Unassigned", "Cn"},
};

/* "{name}" behind \p, as PCRE2 calls it; how much of s was taken. */
static size_t put_property(struct sd_buf *b, const char *s)
{
	size_t len = s[0] == '{' ? strcspn(s, "}") : 0, skip = 1, n;

	if (len == 0 || s[len] != '}')
		return 0;
	if (strncmp(s, "{General_Category=", 18) == 0)
		skip = 18;
	else if (strncmp(s, "{gc=", 4) == 0)
		skip = 4;
	n = len - skip;
	for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
		if (strlen(categories[i].name) == n && memcmp(categories[i].name, s + skip, n) == 0) {
			sd_buf_printf(b, "{%s}", categories[i].category);
			return len + 1;
		}
	sd_buf_printf(b, "{%.*s}", (int)n, s + skip);
	return len + 1;
}

/* What may follow "(?". */
static bool known_group(const char *s)
{
	size_t flags = strspn(s, "ims-");

	if (flags > 0)
		return s[flags] == ':';
	if (*s == '<')
		return s[1] != '\0' && s[1] != '>';
	return *s == ':' || *s == '=' || *s == '!';
}

/* For PCRE2, appended to b.  NULL, or what is no syntax of ECMA-262. */
static const char *translate(struct sd_buf *b, const char *s)
{
	bool in_class = false;

	for (size_t n; *s != '\0'; s += n) {
		n = 1;
		if (*s == '\\' && s[1] != '\0') {
			n = 2;
			if (((s[1] >= 'a' && s[1] <= 'z') || (s[1] >= 'A' && s[1] <= 'Z')) && strchr("bBcdDfknpPrsStuvwWx", s[1]) == NULL)
				return "an escape";
			if (s[1] == 'v') { /* any vertical space to PCRE2 */
				sd_buf_str(b, "\\x0b");
				continue;
			}
			if (s[1] == 's' || (s[1] == 'S' && !in_class)) {
				sd_buf_printf(b, in_class ? "%s" : s[1] == 's' ? "[%s]" : "[^%s]", SPACES);
				continue;
			}
			sd_buf_append(b, s, 2);
			if (s[1] == 'p' || s[1] == 'P')
				n += put_property(b, s + 2);
			continue;
		}
		if (in_class) {
			in_class = *s != ']';
			if (*s == '[') /* no [:alpha:] */
				sd_buf_chr(b, '\\');
		} else if (*s == '[') {
			in_class = true;
			n += s[1] == '^';
		} else if (*s == '(' && (s[1] == '*' || (s[1] == '?' && !known_group(s + 2)))) {
			return "a group";
		}
		sd_buf_append(b, s, n);
	}
	sd_buf_append(b, "", 0);
	return NULL;
}

static pcre2_code *compile(struct sd_schema *s, const char *text, const struct sd_way *way, struct sd_err *err)
{
	const uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS |
				 PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_POSSESS;
	struct sd_buf b = SD_BUF_INIT;
	const char *strange;
	unsigned char why[200];
	pcre2_code *code = NULL;
	PCRE2_SIZE at;
	int rc;

	strange = translate(&b, text);
	if (strlen(text) > PATTERN_MAX)
		sd_schema_wrong(err, way, "the pattern is longer than %d bytes", PATTERN_MAX);
	else if (strange != NULL)
		sd_schema_wrong(err, way, "\"%.100s\" is no pattern: it has %s that ECMA-262 does not know", text, strange);
	else if ((code = pcre2_compile((PCRE2_SPTR)b.data, b.len, options, &rc, &at, s->pcre)) == NULL) {
		pcre2_get_error_message(rc, why, sizeof why);
		sd_schema_wrong(err, way, "\"%.100s\" is no pattern: %s", text, (const char *)why);
	}
	sd_buf_fini(&b);
	return code;
}

struct sd_regex *sd_schema_regex(struct sd_schema *s, const char *text, const struct sd_way *way, struct sd_err *err)
{
	struct sd_regex *x;

	for (x = s->regexes; x != NULL; x = x->next)
		if (strcmp(x->text, text) == 0)
			return x;
	x = sd_arena_alloc(s->arena, sizeof *x);
	x->code = compile(s, text, way, err);
	if (x->code == NULL)
		return NULL;
	x->text = text;
	x->next = s->regexes;
	s->regexes = x;
	return x;
}

static int match(struct sd_run *r, const struct sd_regex *x, const char *text, size_t len, size_t steps)
{
	pcre2_set_match_limit(r->match, steps < SD_SCHEMA_MATCH_MAX ? (uint32_t)steps : SD_SCHEMA_MATCH_MAX);
	return pcre2_match(x->code, (PCRE2_SPTR)text, len, 0, PCRE2_NO_UTF_CHECK, r->match_data, r->match);
}

bool sd_run_matches(struct sd_run *r, const struct sd_regex *x, const char *text, const struct sd_way *way)
{
	size_t len = strlen(text);
	int rc;

	if (!sd_run_spend(r, 4 + (long)(len / 16)))
		return false;
	if (r->match_data == NULL) {
		r->match_data = pcre2_match_data_create(1, NULL);
		r->match = pcre2_match_context_create(NULL);
		if (r->match_data == NULL || r->match == NULL)
			sd_xmalloc(SIZE_MAX / 2); /* says that memory is out */
		pcre2_set_heap_limit(r->match, 16 * 1024);
	}
	rc = match(r, x, text, len, SD_SCHEMA_MATCH_FEW + 16 * len);
	if (rc == PCRE2_ERROR_MATCHLIMIT && sd_run_spend(r, SD_SCHEMA_MATCH_WORK))
		rc = match(r, x, text, len, SD_SCHEMA_MATCH_MAX);
	if (rc >= 0)
		return true;
	if (rc != PCRE2_ERROR_NOMATCH && !r->over) {
		r->silent = 0;
		sd_run_violation(r, way, "limit", "matching the pattern \"%.100s\" takes too long", x->text);
		r->over = true;
	}
	return false;
}
