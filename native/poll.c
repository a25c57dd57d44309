#include "addon.h"

void sf_init_poll(napi_env env, napi_value exports)
{
}
