/*
 * storage_samples.h
 *	  Sizes of the tables now and then, from which stat_storage tells how fast they grow.
 */
#ifndef PS_STORAGE_SAMPLES_H
#define PS_STORAGE_SAMPLES_H

/* Takes the sizes, unless that was done within an hour, and forgets those older than a week. Needs an SPI connection. */
extern void ps_storage_sample(void);

#endif							/* PS_STORAGE_SAMPLES_H */
