#include "addon.h"

void sf_init_socket(napi_env env, napi_value exports)
{
}
