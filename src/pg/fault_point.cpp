#include "pg/fault_point.h"

#ifdef PAYONCE_TEST_FAULTS

#include <cstring>

#include "pg/pg.h"

namespace payonce::pg {
namespace {

char* test_fault = nullptr;

bool is_set(const char* point, const char* action) {
    const std::size_t length = std::strlen(point);
    return std::strncmp(test_fault, point, length) == 0 && test_fault[length] == '=' &&
           std::strcmp(test_fault + length + 1, action) == 0;
}

}  // namespace

void define_fault_setting() {
    DefineCustomStringVariable("payonce.test_fault", "What happens at which fault point.",
                               "POINT=ACTION. Only in builds for tests.", &test_fault, "",
                               PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
}

bool is_left_out(const char* point) {
    return is_set(point, "skip");
}

}  // namespace payonce::pg

#endif
