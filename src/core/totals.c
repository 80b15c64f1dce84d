/*
 * totals.c
 *	  Totals of a lifetime series, packed: their count, and first, last, minimum,
 *	  maximum and sum as five samples.
 *
 *	  Of samples with one time those that were applied earlier are folded earlier. So
 *	  the first sample of the totals precedes an open one of the same time, and an open
 *	  one follows the last.
 */
#include "postgres.h"

#include "core/numeric_call.h"
#include "core/samples.h"
#include "core/totals.h"
#include "core/varint.h"

#define PACKED_SAMPLES 5

void
ps_totals_read(const PsSeries *series, PsTotals *totals)
{
	const char *next = series->totals;
	const char *end = series->totals + series->totals_len;
	uint64		count;
	PsSample   *samples;
	int			n = 0;

	memset(totals, 0, sizeof(PsTotals));
	if (series->totals_len == 0)
		return;
	if (ps_varint_read(&next, end, &count) && count > 0 && count <= PG_INT64_MAX)
		samples = ps_samples_unpack(next, end - next, &n);
	if (n != PACKED_SAMPLES)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("totals of a metric are damaged")));
	totals->count = (int64) count;
	totals->from_at = samples[0].at;
	totals->to_at = samples[1].at;
	totals->first = samples[0].value;
	totals->last = samples[1].value;
	totals->min = samples[2].value;
	totals->max = samples[3].value;
	totals->sum = samples[4].value;
}

static void
totals_write(PsSeries *series, const PsTotals *totals)
{
	PsSeries	packed = {0};
	char	   *out;

	ps_samples_add(&packed, totals->from_at, totals->first);
	ps_samples_add(&packed, totals->to_at, totals->last);
	ps_samples_add(&packed, totals->to_at, totals->min);
	ps_samples_add(&packed, totals->to_at, totals->max);
	ps_samples_add(&packed, totals->to_at, totals->sum);
	series->totals = out = palloc(PS_VARINT_BYTES + packed.len);
	out = ps_varint_write(out, totals->count);
	memcpy(out, packed.bytes, packed.len);
	series->totals_len = out + packed.len - series->totals;
}

/* Adds a sample to which none of those that are in the totals and have its time is later applied. */
static void
totals_add(PsTotals *totals, const PsSample *sample)
{
	if (totals->count++ == 0)
	{
		totals->from_at = totals->to_at = sample->at;
		totals->sum = totals->min = totals->max = totals->first = totals->last = sample->value;
		return;
	}
	totals->sum = ps_numeric_call(numeric_add, totals->sum, sample->value);
	totals->min = ps_numeric_call(numeric_smaller, totals->min, sample->value);
	totals->max = ps_numeric_call(numeric_larger, totals->max, sample->value);
	if (sample->at < totals->from_at)
	{
		totals->from_at = sample->at;
		totals->first = sample->value;
	}
	if (sample->at >= totals->to_at)
	{
		totals->to_at = sample->at;
		totals->last = sample->value;
	}
}

/* Orders samples by time, and those of one time as they were applied: they are elements of one array. */
static int
compare_samples(const void *a, const void *b)
{
	const PsSample *x = *(const PsSample *const *) a;
	const PsSample *y = *(const PsSample *const *) b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x < y ? -1 : x > y;
}

void
ps_totals_fold(PsSeries *series)
{
	int			n;
	PsSample   *samples = ps_samples_unpack(series->bytes, series->len, &n);
	PsSample  **ordered = palloc(Max(n, 1) * sizeof(PsSample *));
	PsTotals	totals;

	ps_totals_read(series, &totals);
	for (int i = 0; i < n; i++)
		ordered[i] = &samples[i];
	qsort(ordered, n, sizeof(PsSample *), compare_samples);
	for (int i = 0; i < (n + 1) / 2; i++)
	{
		totals_add(&totals, ordered[i]);
		ordered[i]->value = NULL;	/* it is folded */
	}
	totals_write(series, &totals);
	series->nsamples = series->len = series->room = 0;
	for (int i = 0; i < n; i++)
		if (samples[i].value != NULL)
			ps_samples_add(series, samples[i].at, samples[i].value);
}
