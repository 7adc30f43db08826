// Bytes that are overwritten before their memory is given back: keys, tokens, secrets.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace payonce::core {

// Moved, never copied by accident: copy() says that there will be two. A vector, since a moved
// std::string may leave its bytes behind.
class Secret {
  public:
    Secret() = default;
    explicit Secret(std::string_view bytes) : bytes_(bytes.begin(), bytes.end()) {}
    ~Secret() { wipe(); }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    Secret(Secret&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            wipe();
            bytes_ = std::exchange(other.bytes_, {});
        }
        return *this;
    }

    Secret copy() const { return Secret(view()); }
    std::string_view view() const noexcept { return {bytes_.data(), bytes_.size()}; }
    bool empty() const noexcept { return bytes_.empty(); }

  private:
    // Through volatile, or the compiler would leave out writes that nobody reads.
    void wipe() noexcept {
        volatile char* bytes = bytes_.data();
        for (std::size_t i = 0; i < bytes_.size(); ++i) {
            bytes[i] = 0;
        }
    }

    std::vector<char> bytes_;
};

}  // namespace payonce::core
