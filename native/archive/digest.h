/* SHA-256 by the OpenSSL inside Node.js: the CPU's instructions for it, and no library of our own. */
#ifndef STILLFRAME_DIGEST_H
#define STILLFRAME_DIGEST_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

#define SF_DIGEST 32
/* Of a member: one of its headers and padding, then one of its data. */
#define SF_MEMBER_DIGESTS (2 * SF_DIGEST)

/* NULL when memory runs out. */
static inline EVP_MD_CTX *sf_digest_new(void)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1)
		return context;
	EVP_MD_CTX_free(context);
	return NULL;
}

/* Ends one digest and begins the next. */
static inline void sf_digest_take(EVP_MD_CTX *context, unsigned char *digest)
{
	EVP_DigestFinal_ex(context, digest, NULL);
	EVP_DigestInit_ex(context, NULL, NULL);
}

/* One digest of two pieces, either of which may be empty. */
static inline void sf_digest_of(
	EVP_MD_CTX *context, const void *a, size_t a_len, const void *b, size_t b_len, unsigned char *digest)
{
	EVP_DigestUpdate(context, a, a_len);
	EVP_DigestUpdate(context, b, b_len);
	sf_digest_take(context, digest);
}

#endif
