/*
 * The headers of small regular files with nothing odd about them. All others are made by
 * src/archive/format/tar-encode.ts, which also makes these where a filter wants to see every entry. Both must make the
 * same bytes: test/root/archive/ready-members.test.ts compares them.
 */
#include "member.h"

#include <string.h>

#define OCTAL_7 07777777
#define OCTAL_11 077777777777

static void octal(char *at, int digits, uint64_t value)
{
	for (; digits > 0; value >>= 3)
		at[--digits] = (char)('0' + (value & 7));
}

/* One ustar block into zeroed bytes; a name that is too long is cut: a pax record has it whole. */
static void write_block(char *out, const char *name, size_t name_len, uint32_t mode, uint32_t uid, uint32_t gid,
	uint64_t size, uint64_t mtime, char flag)
{
	uint32_t sum = 8 * ' ';

	memcpy(out, name, name_len < 100 ? name_len : 100);
	octal(out + 100, 7, mode);
	octal(out + 108, 7, uid);
	octal(out + 116, 7, gid);
	octal(out + 124, 11, size);
	octal(out + 136, 11, mtime);
	out[156] = flag;
	memcpy(out + 257,
		"ustar\0"
		"00",
		8);
	octal(out + 329, 7, 0);
	octal(out + 337, 7, 0);
	for (int i = 0; i < SF_BLOCK; i++)
		sum += (uint8_t)out[i];
	octal(out + 148, 6, sum);
	out[155] = ' ';
}

/* Decimal digits without a sign; how many. By hand: printf was a third of what a header costs. */
static size_t decimal(char *out, uint64_t value)
{
	char digits[20];
	size_t count = 0;

	do
		digits[count++] = (char)('0' + value % 10);
	while (value /= 10);
	for (size_t i = 0; i < count; i++)
		out[i] = digits[count - 1 - i];
	return count;
}

/* `<length> <keyword>=<value>\n`, the length counting its own digits. */
static size_t pax_record(char *out, const char *keyword, const char *value, size_t value_len)
{
	char digits[20];
	size_t keyword_len = strlen(keyword), rest = keyword_len + value_len + 3, length = rest;

	for (size_t guess = 0; guess != length;) {
		guess = length;
		length = rest + decimal(digits, guess);
	}
	size_t at = decimal(out, length);
	out[at++] = ' ';
	memcpy(out + at, keyword, keyword_len);
	at += keyword_len;
	out[at++] = '=';
	memcpy(out + at, value, value_len);
	out[at + value_len] = '\n';
	return length;
}

/* `seconds.nanoseconds`, as pax has it. */
static size_t pax_time(char *out, uint64_t sec, uint32_t nsec)
{
	size_t len = decimal(out, sec);

	out[len] = '.';
	for (int i = 9; i > 0; i--, nsec /= 10)
		out[len + (size_t)i] = (char)('0' + nsec % 10);
	return len + 10;
}

size_t sf_member_header(const struct sf_entry *entry, const char *name, size_t name_len, char out[SF_HEADER_MAX])
{
	char time[48];
	size_t pax = 0, at = 0;

	if (entry->uid > OCTAL_7 || entry->gid > OCTAL_7 || entry->mtime_sec < 0 || entry->mtime_sec > OCTAL_11 ||
		name_len > SF_NAME_MAX)
		return 0;
	memset(out, 0, SF_HEADER_MAX);
	if (entry->mtime_nsec != 0) {
		size_t len = pax_time(time, (uint64_t)entry->mtime_sec, entry->mtime_nsec);
		pax += pax_record(out + SF_BLOCK, "mtime", time, len);
	}
	if (name_len > 100)
		pax += pax_record(out + SF_BLOCK + pax, "path", name, name_len);
	if (pax > 0) {
		write_block(out, "././@PaxHeader", 14, 0644, 0, 0, pax, 0, 'x');
		at = SF_BLOCK + (pax + SF_BLOCK - 1) / SF_BLOCK * SF_BLOCK;
	}
	write_block(out + at, name, name_len, entry->mode & 07777, entry->uid, entry->gid, entry->size,
		(uint64_t)entry->mtime_sec, '0');
	return at + SF_BLOCK;
}
