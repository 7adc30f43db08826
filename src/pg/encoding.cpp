#include "pg/encoding.h"

#include "pg/pg.h"

namespace payonce::pg {
namespace {

bool needs_conversion() {
    return GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;
}

}  // namespace

std::string_view to_utf8(std::string_view text) {
    if (!needs_conversion()) {
        return text;
    }
    return pg_server_to_any(pnstrdup(text.data(), text.size()), static_cast<int>(text.size()),
                            PG_UTF8);
}

std::string_view from_utf8(std::string_view utf8) {
    if (!needs_conversion()) {
        return utf8;
    }
    return pg_any_to_server(pnstrdup(utf8.data(), utf8.size()), static_cast<int>(utf8.size()),
                            PG_UTF8);
}

std::string_view foreign_text(std::string_view utf8) {
    if (GetDatabaseEncoding() == PG_UTF8) {
        return utf8;
    }
    char* copy = pnstrdup(utf8.data(), utf8.size());
    for (char* at = copy; *at != '\0'; ++at) {
        if (IS_HIGHBIT_SET(*at)) {
            *at = '?';
        }
    }
    return copy;
}

}  // namespace payonce::pg
