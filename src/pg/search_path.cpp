#include "pg/search_path.h"

#include <cstring>

#include "pg/pg.h"

namespace payonce::pg {
namespace {

constexpr const char* pinned = "pg_catalog, pg_temp";

}  // namespace

void pin_search_path() {
    if (std::strcmp(namespace_search_path, pinned) != 0) {
        (void)set_config_option("search_path", pinned, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                                true, 0, false);
    }
}

}  // namespace payonce::pg
