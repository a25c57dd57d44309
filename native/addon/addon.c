#include "addon.h"
#include "errno-names.h"

#include <stdio.h>
#include <string.h>

napi_value sf_errno_error(napi_env env, int err, const char *syscall)
{
	char text[256], number[32];
	const char *name = sf_errno_name(err);
	napi_value message, code, error, value;

	if (!name) {
		snprintf(number, sizeof(number), "errno %d", err);
		name = number;
	}
	snprintf(text, sizeof(text), "%s: %s, %s", name, strerror(err), syscall);
	napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
	napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code);
	napi_create_error(env, code, message, &error);
	napi_create_int32(env, -err, &value);
	napi_set_named_property(env, error, "errno", value);
	napi_create_string_utf8(env, syscall, NAPI_AUTO_LENGTH, &value);
	napi_set_named_property(env, error, "syscall", value);
	return error;
}

napi_value sf_throw_errno(napi_env env, int err, const char *syscall)
{
	napi_throw(env, sf_errno_error(env, err, syscall));
	return NULL;
}

void sf_set_function(napi_env env, napi_value object, const char *name, napi_callback fn)
{
	napi_value value;

	napi_create_function(env, name, NAPI_AUTO_LENGTH, fn, NULL, &value);
	napi_set_named_property(env, object, name, value);
}

static napi_value init(napi_env env, napi_value exports)
{
	sf_init_held(env, exports);
	sf_init_socket(env, exports);
	sf_init_poll(env, exports);
	sf_init_spawn(env, exports);
	sf_init_tree(env, exports);
	sf_init_scan(env, exports);
	sf_init_exclude(env, exports);
	sf_init_describe(env, exports);
	sf_init_hash(env, exports);
	sf_init_pass(env, exports);
	sf_init_lines(env, exports);
	sf_init_copy(env, exports);
	sf_init_copy_ranges(env, exports);
	sf_init_move(env, exports);
	sf_init_files(env, exports);
	sf_init_remove(env, exports);
	sf_init_locks(env, exports);
	sf_init_descriptors(env, exports);
	sf_init_look_up(env, exports);
	sf_init_open_entry(env, exports);
	return exports;
}

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
