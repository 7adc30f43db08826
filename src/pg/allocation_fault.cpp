// The C++ phase of fault_point.h: `new` of this library, which fails at the allocation that a test
// has named.
#include "pg/fault_point.h"

#ifdef PAYONCE_TEST_FAULTS

#include <cstdlib>
#include <new>

namespace payonce::pg {
namespace {

#define PAYONCE_NAME(name) #name,
constexpr const char* point_names[] = {PAYONCE_ALLOCATION_POINTS(PAYONCE_NAME)};
#undef PAYONCE_NAME

// Of the scope that is entered; libcurl's resolver threads use malloc, not this.
const char* armed_point = nullptr;
long allocations_left = 0;  // 0: none shall fail

bool fails_now() noexcept {
    return allocations_left > 0 && --allocations_left == 0 && fault_file::take(armed_point);
}

}  // namespace

AllocationFault::AllocationFault(AllocationPoint point) noexcept {
    armed_point = point_names[static_cast<std::size_t>(point)];
    char number[fault_file::max_bytes];
    allocations_left = fault_file::read(armed_point, number) ? std::strtol(number, nullptr, 10) : 0;
}

AllocationFault::~AllocationFault() {
    allocations_left = 0;
}

}  // namespace payonce::pg

void* operator new(std::size_t size) {
    void* memory = payonce::pg::fails_now() ? nullptr : std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
    return payonce::pg::fails_now() ? nullptr : std::malloc(size == 0 ? 1 : size);
}

void operator delete(void* memory) noexcept {
    std::free(memory);
}

void operator delete(void* memory, std::size_t /*size*/) noexcept {
    std::free(memory);
}

#endif
