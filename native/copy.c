#include "addon.h"

void sf_init_copy(napi_env env, napi_value exports)
{
}
