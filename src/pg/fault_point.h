// Named points between two steps, at which a test can stop, fail or end the process. They are in
// builds with PAYONCE_TEST_FAULTS alone; in every other they compile to nothing.
//
// The setting payonce.test_fault of such a build says what happens where: POINT=ACTION.
#pragma once

namespace payonce::pg {

#ifdef PAYONCE_TEST_FAULTS
void define_fault_setting();
// Whether the test wants this step left out: to show that it is missed.
bool is_left_out(const char* point);
#else
inline void define_fault_setting() {}
constexpr bool is_left_out(const char* /*point*/) {
    return false;
}
#endif

}  // namespace payonce::pg
