/*
 * fuzz_event.c
 *	  Decodes damaged events outside of a server, built with the address and
 *	  undefined-behaviour sanitizers, which PostgreSQL's own allocator would hide
 *	  much from: here each allocation is one of malloc's, and the value ends at
 *	  a page that cannot be read. Called by test/t/event_020_fuzz.pl.
 *
 *	  fuzz_event seed iterations; prints how many events were valid. With each
 *	  fourth event goes a round of all other parsers of foreign bytes.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/jsonapi.h"
#include "testing/fuzz.h"
#include "mb/pg_wchar.h"
#include "utils/datetime.h"

#define DECODED_AT INT64CONST(820540800000000)	/* 2026-01-01 */

/* What the decoder takes from the server. */
MemoryContext CurrentMemoryContext = NULL;
const int	day_tab[2][13] = {
	{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0},
	{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0}
};

/* Days since Monday, January 1, 4713 BC, counted year by year. */
int
date2j(int year, int month, int day)
{
	int			days = 1721426; /* 0001-01-01 */

	for (int y = 1; y < year; y++)
		days += isleap(y) ? 366 : 365;
	for (int m = 1; m < month; m++)
		days += day_tab[isleap(year)][m - 1];
	return days + day - 1;
}

int
pg_encoding_mbcliplen(int encoding, const char *text, int len, int limit)
{
	int			clipped = 0;

	while (clipped < len && text[clipped] != '\0')
	{
		int			next = pg_encoding_mblen(encoding, text +clipped);

		if (clipped + next > Min(len, limit))
			break;
		clipped += next;
	}
	return clipped;
}

/* In 15 and 16 only the server has it. */
char *
json_errdetail(JsonParseErrorType error, JsonLexContext *lex)
{
	return psprintf("error %d", (int) error);
}

/* Every allocation of an iteration, in front of what the caller gets. */
typedef struct Block
{
	struct Block *next;
	struct Block *previous;
	max_align_t data[];
} Block;

static Block blocks =
{
	&blocks, &blocks
};

static void *
take(Block *block, Size size)
{
	block = realloc(block, sizeof(Block) + size);
	if (block == NULL)
		abort();
	block->next = blocks.next;
	block->previous = &blocks;
	blocks.next->previous = block;
	blocks.next = block;
	return block->data;
}

static Block *
leave(void *pointer)
{
	Block	   *block = (Block *) ((char *) pointer - offsetof(Block, data));

	block->next->previous = block->previous;
	block->previous->next = block->next;
	return block;
}

void *
palloc(Size size)
{
	return take(NULL, size);
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return palloc(size);
}

void *
repalloc(void *pointer, Size size)
{
	return take(leave(pointer), size);
}

void *
repalloc_huge(void *pointer, Size size)
{
	return repalloc(pointer, size);
}

/* As that of PostgreSQL's library for programs, it takes NULL, which the JSON parser of that library gives it from 17 on. */
void
pfree(void *pointer)
{
	if (pointer != NULL)
		free(leave(pointer));
}

char *
pnstrdup(const char *text, Size len)
{
	char	   *copy;

	len = strnlen(text, len);
	copy = memcpy(palloc(len + 1), text, len);
	copy[len] = '\0';
	return copy;
}

char *
pstrdup(const char *text)
{
	return pnstrdup(text, strlen(text));
}

static void
forget_blocks(void)
{
	while (blocks.next != &blocks)
		pfree(blocks.next->data);
}

/* Whether two events say the same. */
static bool
is_equal(const PsEvent *a, const PsEvent *b)
{
	if (strcmp(a->event_id, b->event_id) != 0 || strcmp(a->customer_id, b->customer_id) != 0 ||
		strcmp(a->event_type, b->event_type) != 0 || a->timestamp != b->timestamp || a->nfields != b->nfields ||
		strcmp(a->source ? a->source : "", b->source ? b->source : "") != 0 || a->payload_len != b->payload_len ||
		(a->payload == NULL) != (b->payload == NULL) ||
		(a->payload != NULL && memcmp(a->payload, b->payload, a->payload_len) != 0))
		return false;
	for (int i = 0; i < a->nfields; i++)
		if (strcmp(a->fields[i].name, b->fields[i].name) != 0 || a->fields[i].type != b->fields[i].type ||
			a->fields[i].len != b->fields[i].len || memcmp(a->fields[i].text, b->fields[i].text, a->fields[i].len) != 0)
			return false;
	return true;
}

/* Copies an event with its message, and wipes the message's value; says what does not hold, NULL when all does. */
static const char *
check_copy(const PsMessage *message, const PsEvent *event, const PsDecodeSettings *settings)
{
	PsMessage	copied;
	PsEvent    *copy;
	const char *wrong = NULL;

	ps_message_copy(&copied, palloc(ps_message_space(message)), message);
	copy = ps_event_copy(palloc(ps_event_space(event, message)), event, message, &copied);
	if (!is_equal(event, copy))
		wrong = "the copy of an event";
	if (message->value_len > 0)
		memset((char *) message->value, '#', message->value_len);
	if (wrong == NULL)
		wrong = ps_fuzz_check_event(copy, settings);
	if (message->value_len > 0)
		memcpy((char *) message->value, copied.value, message->value_len);
	return wrong;
}

/* Decodes a message whose value is moved to where nothing behind it can be read; says what does not hold, NULL when all does. */
static const char *
decode(PsMessage *message, const PsFormatMap *format_map, bool *valid)
{
	PsDecodeSettings settings = {DECODED_AT, USECS_PER_HOUR, PS_FUZZ_MAX_BYTES, format_map};
	static char *end = NULL;
	PsEvent		event;
	PsReject   *reject;
	const char *wrong;

	if (end == NULL)
	{
		Size		page = sysconf(_SC_PAGESIZE);

		end = (char *) mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + page;
		if (mprotect(end, page, PROT_NONE) != 0)
			abort();
	}
	message->value = memcpy(end - message->value_len, message->value, message->value_len);
	reject = ps_event_decode(message, &settings, &event);
	*valid = reject == NULL && !event.is_ignored;
	if (reject != NULL)
		return ps_fuzz_check_reject(reject);
	if (event.is_ignored)
		return NULL;
	wrong = ps_fuzz_check_event(&event, &settings);
	return wrong != NULL ? wrong : check_copy(message, &event, &settings);
}

#ifdef PS_LIBFUZZER

int			LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

/* Guided by coverage, by bench/fuzz.sh. */
int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static char bytes[PS_FUZZ_MAX_BYTES];
	pg_prng_state prng;
	PsMessage	message;
	PsFormatMap *format_map;
	bool		valid;

	if (size == 0 || size > PS_FUZZ_MAX_BYTES)
		return 0;
	/* format, key and headers follow from the first byte, the value from the others */
	pg_prng_seed(&prng, data[0]);
	format_map = ps_fuzz_envelope(&prng);
	ps_fuzz_fill(&prng, format_map, bytes, &message);
	message.value = (const char *) data + 1;
	message.value_len = (int) size - 1;
	if (decode(&message, format_map, &valid) != NULL)
		abort();
	forget_blocks();
	return 0;
}

#else

int
main(int argc, char **argv)
{
	char		bytes[PS_FUZZ_MAX_BYTES];
	pg_prng_state prng;
	long		nvalid = 0;

	if (argc != 3)
		return 2;
	pg_prng_seed(&prng, strtoul(argv[1], NULL, 10));
	for (long i = atol(argv[2]); i > 0; i--)
	{
		PsFormatMap *format_map = ps_fuzz_envelope(&prng);
		PsMessage	message;
		const char *wrong;
		bool		valid;

		ps_fuzz_fill(&prng, format_map, bytes, &message);
		wrong = decode(&message, format_map, &valid);
		if (wrong == NULL && i % 4 == 0)
			wrong = ps_fuzz_parsers(&prng);
		if (wrong != NULL)
		{
			printf("%s does not hold for %.*s\n", wrong, message.value_len, message.value);
			return 1;
		}
		nvalid += valid;
		forget_blocks();
	}
	printf("%ld valid\n", nvalid);
	return 0;
}

#endif

#ifdef USE_ASSERT_CHECKING
/* Where assertions end, also those of PostgreSQL's inline functions. */
#if PG_VERSION_NUM >= 160000
void
ExceptionalCondition(const char *condition, const char *file, int line)
#else
void
ExceptionalCondition(const char *condition, const char *type, const char *file, int line)
#endif
{
	fprintf(stderr, "assertion %s failed at %s:%d\n", condition, file, line);
	abort();
}
#endif
