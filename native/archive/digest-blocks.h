/* The compression function of SHA-256 over whole blocks, one for each kind of CPU. */
#ifndef STILLFRAME_DIGEST_BLOCKS_H
#define STILLFRAME_DIGEST_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void sf_digest_blocks(uint32_t state[8], const unsigned char *data, size_t blocks);

extern const uint32_t sf_sha256_k[64];

sf_digest_blocks sf_digest_blocks_portable;

#if defined(__x86_64__)
#define SF_DIGEST_CPU "sha-ni"
#elif defined(__aarch64__)
#define SF_DIGEST_CPU "armv8"
#endif

#ifdef SF_DIGEST_CPU
bool sf_digest_cpu_has_it(void);
sf_digest_blocks sf_digest_blocks_cpu;
#endif

#endif
