/*
 * secret_file.h
 *	  Options whose value is in a file: sasl.password_file for sasl.password.
 */
#ifndef PS_SECRET_FILE_H
#define PS_SECRET_FILE_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Whether an option names a file that holds the value of another option. */
extern bool ps_secret_in_file(const char *name);

/* Reads the files, and returns the list of PsKafkaOption with the options that they stand for. Raises when it cannot. */
extern List *ps_secret_files_read(List *options);

/* What is in a file, without the end of its last line; raises when it cannot be read, is empty or too large. */
extern char *ps_secret_file_read(const char *option, const char *path);

#endif							/* PS_SECRET_FILE_H */
