#include "addon.h"

void sf_init_scan(napi_env env, napi_value exports)
{
}
