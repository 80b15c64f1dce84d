/*
 * jsonb_object.c
 *	  Writes jsonb as PostgreSQL stores it: a header, an entry for each key
 *	  and each value, the keys, and the values. An entry has a length, or each 32nd
 *	  the offset of its end.
 */
#include "postgres.h"

#include "compat.h"
#include "core/jsonb_object.h"
#include "utils/numeric.h"

#define ENTRIES_AT (VARHDRSZ + sizeof(uint32))	/* behind the length of the varlena and the header of the object */

int
ps_jsonb_compare_keys(const char *a, int a_len, const char *b, int b_len)
{
	return a_len != b_len ? a_len - b_len : memcmp(a, b, a_len);
}

/* Writes the entry of the next key or value, whose bytes are there already. */
static void
write_entry(PsJsonbObject *object, uint32 type, int len)
{
	JEntry		entry = type | (uint32) len;

	object->bytes += len;
	if (object->bytes > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("total size of jsonb object elements exceeds the maximum of %u bytes", JENTRY_OFFLENMASK)));
	if (object->nentries % JB_OFFSET_STRIDE == 0)
		entry = type | object->bytes | JENTRY_HAS_OFF;
	memcpy(object->buffer.data + ENTRIES_AT + object->nentries++ * sizeof(JEntry), &entry, sizeof(JEntry));
}

void
ps_jsonb_object_begin(PsJsonbObject *object, int npairs)
{
	int			entries = 2 * npairs * sizeof(JEntry);
	uint32		header = npairs | JB_FOBJECT;

	initStringInfo(&object->buffer);
	enlargeStringInfo(&object->buffer, ENTRIES_AT + entries);
	memcpy(object->buffer.data + VARHDRSZ, &header, sizeof(header));
	object->buffer.len = ENTRIES_AT + entries;
	object->npairs = npairs;
	object->nentries = 0;
	object->bytes = 0;
}

void
ps_jsonb_object_key(PsJsonbObject *object, const char *key, int len)
{
	Assert(object->nentries < object->npairs);
	appendBinaryStringInfo(&object->buffer, key, len);
	write_entry(object, JENTRY_ISSTRING, len);
}

void
ps_jsonb_object_copy(PsJsonbObject *object, const PsJsonbObject *begun)
{
	*object = *begun;
	initStringInfo(&object->buffer);
	appendBinaryStringInfo(&object->buffer, begun->buffer.data, begun->buffer.len);
}

/* Appends bytes; numbers and containers begin at a multiple of 4. Returns how many bytes were added. */
static int
append_value(PsJsonbObject *object, const void *bytes, int len, bool align)
{
	static const char zeroes[sizeof(int32)] = {0};
	int			padding = align ? INTALIGN(object->buffer.len) - object->buffer.len : 0;

	appendBinaryStringInfo(&object->buffer, zeroes, padding);
	appendBinaryStringInfo(&object->buffer, bytes, len);
	return padding + len;
}

void
ps_jsonb_object_add(PsJsonbObject *object, const JsonbValue *value)
{
	uint32		type = JENTRY_ISNULL;
	int			len = 0;

	Assert(object->nentries >= object->npairs && object->nentries < 2 * object->npairs);
	switch (value->type)
	{
		case jbvString:
			type = JENTRY_ISSTRING;
			len = append_value(object, value->val.string.val, value->val.string.len, false);
			break;
		case jbvNumeric:
			type = JENTRY_ISNUMERIC;
			len = append_value(object, value->val.numeric, VARSIZE_ANY(value->val.numeric), true);
			break;
		case jbvBool:
			type = value->val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
			break;
		case jbvBinary:
			type = JENTRY_ISCONTAINER;
			len = append_value(object, value->val.binary.data, value->val.binary.len, true);
			break;
		default:
			break;
	}
	write_entry(object, type, len);
}

Jsonb *
ps_jsonb_object_end(PsJsonbObject *object)
{
	Assert(object->nentries == 2 * object->npairs);
	SET_VARSIZE(object->buffer.data, object->buffer.len);
	return (Jsonb *) object->buffer.data;
}
