#include "core/json_library.h"

#include <array>
#include <functional>
#include <limits>
#include <new>

namespace {

// Memory for when there is none. What was taken is free again once all of it was given back.
class Reserve {
  public:
    void* take(std::size_t bytes) noexcept {
        constexpr std::size_t step = alignof(std::max_align_t);
        const std::size_t needed = (bytes + step - 1) / step * step;
        if (needed > room_.size() - used_) {
            return nullptr;
        }
        void* taken = room_.data() + used_;
        used_ += needed;
        ++pieces_;
        return taken;
    }

    // False: it is not from here.
    bool give_back(const void* taken) noexcept {
        const std::less<> is_before;
        const void* begin = room_.data();
        const void* end = room_.data() + room_.size();
        if (is_before(taken, begin) || !is_before(taken, end)) {
            return false;
        }
        used_ = --pieces_ == 0 ? 0 : used_;
        return true;
    }

  private:
    // For thousands of values: far more than a gateway's answer has in one object or array.
    alignas(std::max_align_t) std::array<std::byte, std::size_t{128} * 1024> room_{};
    std::size_t used_ = 0;
    std::size_t pieces_ = 0;
};

constinit Reserve reserve;

}  // namespace

nlohmann::json* std::allocator<nlohmann::json>::allocate(std::size_t count) {
    if (count > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(nlohmann::json)) {
        throw std::bad_array_new_length();
    }
    const std::size_t bytes = count * sizeof(nlohmann::json);
    void* memory = ::operator new(bytes, std::nothrow);
    if (memory == nullptr) {
        memory = reserve.take(bytes);
    }
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return static_cast<nlohmann::json*>(memory);
}

void std::allocator<nlohmann::json>::deallocate(nlohmann::json* values,
                                                std::size_t /*count*/) noexcept {
    if (!reserve.give_back(values)) {
        ::operator delete(values);
    }
}
