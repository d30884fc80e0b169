/*
 * Doubles as text with a decimal point.  A handler may call setlocale(3), which
 * counts for the whole process: printf and strtod then use a comma.
 */
#ifndef SD_BASE_DECIMAL_H
#define SD_BASE_DECIMAL_H

#define SD_DECIMAL_MAX 40

/* "%.PRECISIONg", or with form 'e' "%.PRECISIONe", into out; precision up to 17.  Returns out. */
char *sd_decimal_print(char out[SD_DECIMAL_MAX], int precision, char form, double v);
double sd_decimal_read(const char *text);

#endif
