#include "addon.h"

void sf_init_files(napi_env env, napi_value exports)
{
}
