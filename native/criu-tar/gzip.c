/*
 * Deflate (RFC 1951) with its fixed codes, and matches that one probe of a hash table finds: tar's headers become a
 * twentieth. The content of large files is stored: the programs stand still while this runs, and what it would save is
 * small beside their memory, which CRIU does not compress either.
 */
#include "gzip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES 65535 /* of a stored block, which has 16 bits for it */
#define MAX_DISTANCE 32768
#define MIN_MATCH 4
#define MAX_MATCH 258
#define HASH_BITS 13

static unsigned char block[BLOCK_BYTES + 8];
static size_t block_used;
static bool only_content;

static unsigned char out[BLOCK_BYTES * 9 / 8 + 4096];
static size_t out_used;
static uint64_t bits;
static unsigned int bit_count;

static uint32_t crc_table[8][256];
static uint32_t crc;
static uint32_t total;

static uint16_t reversed[512]; /* nine bits, turned around: Huffman codes begin with their highest bit */
static uint16_t length_codes[MAX_MATCH + 1];

static const uint16_t length_base[] = { 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
	99, 115, 131, 163, 195, 227, 258 };
static const uint8_t length_extra[] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5,
	5, 0 };

static void make_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t value = i;

		for (int bit = 0; bit < 8; bit++)
			value = (value >> 1) ^ (value & 1 ? 0xedb88320 : 0);
		crc_table[0][i] = value;
	}
	for (int slice = 1; slice < 8; slice++)
		for (uint32_t i = 0; i < 256; i++)
			crc_table[slice][i] = (crc_table[slice - 1][i] >> 8) ^ crc_table[0][crc_table[slice - 1][i] & 0xff];
	for (unsigned int i = 0; i < 512; i++)
		for (int bit = 0; bit < 9; bit++)
			if (i & (1u << bit))
				reversed[i] |= (uint16_t)(1u << (8 - bit));
	for (unsigned int length = 3, code = 0; length <= MAX_MATCH; length++) {
		while (code < 28 && length_base[code + 1] <= length)
			code++;
		length_codes[length] = (uint16_t)code;
	}
}

/* Eight bytes at a time, "slicing by 8". Both architectures are little-endian. */
static void add_to_crc(const unsigned char *data, size_t length)
{
	uint32_t value = ~crc;

	for (; length >= 8; data += 8, length -= 8) {
		uint32_t low, high;

		memcpy(&low, data, 4);
		memcpy(&high, data + 4, 4);
		low ^= value;
		value = crc_table[7][low & 0xff] ^ crc_table[6][(low >> 8) & 0xff] ^ crc_table[5][(low >> 16) & 0xff] ^
			crc_table[4][low >> 24] ^ crc_table[3][high & 0xff] ^ crc_table[2][(high >> 8) & 0xff] ^
			crc_table[1][(high >> 16) & 0xff] ^ crc_table[0][high >> 24];
	}
	while (length-- > 0)
		value = (value >> 8) ^ crc_table[0][(value ^ *data++) & 0xff];
	crc = ~value;
}

static void write_all(const unsigned char *data, size_t length)
{
	while (length > 0) {
		ssize_t written = write(STDOUT_FILENO, data, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			fail(errno, "cannot write", "the archive");
		data += written;
		length -= (size_t)written;
	}
}

static void put(uint64_t value, unsigned int count)
{
	bits |= value << bit_count;
	bit_count += count;
	while (bit_count >= 8) {
		out[out_used++] = (unsigned char)bits;
		bits >>= 8;
		bit_count -= 8;
	}
}

static void put_code(unsigned int code, unsigned int count)
{
	put(reversed[code] >> (9 - count), count);
}

/* RFC 1951, 3.2.6. Symbols above 255 are the end of the block and the lengths. */
static void put_symbol(unsigned int symbol)
{
	if (symbol < 144)
		put_code(0x30 + symbol, 8);
	else if (symbol < 256)
		put_code(0x190 + symbol - 144, 9);
	else if (symbol < 280)
		put_code(symbol - 256, 7);
	else
		put_code(0xc0 + symbol - 280, 8);
}

static void put_match(unsigned int length, unsigned int distance)
{
	unsigned int code = length_codes[length], extra;

	put_symbol(257 + code);
	put(length - length_base[code], length_extra[code]);
	distance--;
	if (distance < 4) {
		put_code(distance, 5);
		return;
	}
	extra = 30 - (unsigned int)__builtin_clz(distance);
	put_code(2 * extra + 2 + ((distance >> extra) & 1), 5);
	put(distance & ((1u << extra) - 1), extra);
}

static uint32_t word_at(size_t at)
{
	uint32_t word;

	memcpy(&word, block + at, 4);
	return word;
}

/* False when it does not become smaller: then the caller takes it back. */
static bool compress_block(bool last)
{
	static uint16_t seen[1 << HASH_BITS];
	size_t start = out_used, at = 0, misses = 0;

	memset(seen, 0, sizeof(seen));
	put(last, 1);
	put(1, 2);
	while (at < block_used) {
		size_t length = 0, candidate = 0;

		if (at + MIN_MATCH <= block_used) {
			uint32_t hash = (word_at(at) * 2654435761u) >> (32 - HASH_BITS);

			candidate = seen[hash];
			seen[hash] = (uint16_t)at;
			if (candidate < at && at - candidate <= MAX_DISTANCE && word_at(candidate) == word_at(at)) {
				size_t most = block_used - at < MAX_MATCH ? block_used - at : MAX_MATCH;

				for (length = MIN_MATCH; length < most && block[candidate + length] == block[at + length];)
					length++;
			}
		}
		if (length > 0) {
			put_match((unsigned int)length, (unsigned int)(at - candidate));
			at += length;
			misses = 0;
			continue;
		}
		/* The longer nothing is found, the less often it is looked for. */
		for (size_t steps = 1 + (misses++ >> 6); steps > 0 && at < block_used; steps--)
			put_symbol(block[at++]);
		if (out_used - start > at + 64)
			return false;
	}
	put_symbol(256);
	return out_used - start < block_used;
}

static void store_block(bool last)
{
	put(last, 1);
	put(0, 2);
	if (bit_count > 0)
		put(0, 8 - bit_count);
	put(block_used & 0xffff, 16);
	put(~block_used & 0xffff, 16);
	write_all(out, out_used);
	write_all(block, block_used);
	out_used = 0;
}

static void end_block(bool last)
{
	size_t out_before = out_used;
	uint64_t bits_before = bits;
	unsigned int count_before = bit_count;

	add_to_crc(block, block_used);
	total += (uint32_t)block_used;
	if (only_content || !compress_block(last)) {
		out_used = out_before;
		bits = bits_before;
		bit_count = count_before;
		store_block(last);
	}
	write_all(out, out_used);
	out_used = 0;
	block_used = 0;
	only_content = true;
}

void gzip_begin(void)
{
	/* RFC 1952: deflate, no name, no time, the fastest method, Unix. */
	static const unsigned char header[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 3 };

	make_tables();
	memcpy(out, header, sizeof(header));
	out_used = sizeof(header);
	only_content = true;
}

void gzip_write(const void *data, size_t length)
{
	while (length > 0) {
		size_t room, count;
		void *to = gzip_room(&room);

		count = length < room ? length : room;
		memcpy(to, data, count);
		only_content = false;
		block_used += count;
		data = (const char *)data + count;
		length -= count;
	}
}

void *gzip_room(size_t *length)
{
	if (block_used == BLOCK_BYTES)
		end_block(false);
	*length = BLOCK_BYTES - block_used;
	return block + block_used;
}

void gzip_filled(size_t length)
{
	block_used += length;
}

void gzip_end(void)
{
	end_block(true);
	if (bit_count > 0)
		put(0, 8 - bit_count);
	put(crc, 32);
	put(total, 32);
	write_all(out, out_used);
}
