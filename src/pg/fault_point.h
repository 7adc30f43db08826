// Named points between two steps, at which a test can stop, fail or end the process. They are in
// builds with PAYONCE_TEST_FAULTS alone; in every other they compile to nothing.
//
// A test asks for what shall happen by a file of the data directory,
// payonce_faults/<oid of the database>/<point>, that holds the action. Who comes by first renames
// it to <point>.hit and does it: so it happens once, also when it ends the process or the server,
// and the test sees that it did. The actions at a FaultPoint:
//
//   error, disk full   ERROR, as a statement there could raise it
//   out of memory      ERROR, as palloc raises it
//   exit               FATAL: the process ends in order
//   crash              kill -9 of the process, and so a crash of the server
//   stop               waits until <point>.hit is removed; interrupts are served meanwhile
//
// At an AllocationPoint the file holds a number: the allocation of that number in its scope fails.
//
// The settings payonce.test_fault_points and payonce.test_allocation_points list them all.
#pragma once

#include <cstdint>

namespace payonce::pg {

#define PAYONCE_FAULT_POINTS(POINT)                                                \
    /* pay_callback, and pay_notify's payments: decide_callback */                 \
    POINT(callback_begun)                                                          \
    POINT(callback_locked)                                                         \
    POINT(callback_reread)                                                         \
    POINT(callback_order_paid)                                                     \
    POINT(callback_payment_written)                                                \
    POINT(callback_refund_queued)                                                  \
    POINT(callback_decided)                                                        \
    /* The commit of any decision; after it only `crash` and `stop` make sense. */ \
    POINT(decision_committing)                                                     \
    POINT(decision_committed)                                                      \
    /* pay_notify */                                                               \
    POINT(notice_begun)                                                            \
    POINT(notice_decided)                                                          \
    POINT(notice_stray_kept)                                                       \
    POINT(notice_refund_locked)                                                    \
    POINT(notice_applied)                                                          \
    POINT(notice_released)                                                         \
    /* The worker claims and sends. */                                             \
    POINT(claim_begun)                                                             \
    POINT(claim_collected)                                                         \
    POINT(claim_committed)                                                         \
    POINT(claim_confirmed)                                                         \
    POINT(call_started)                                                            \
    POINT(calls_started)                                                           \
    POINT(network_moved)                                                           \
    /* The worker records answers. */                                              \
    POINT(answers_due)                                                             \
    POINT(record_begun)                                                            \
    POINT(answer_locked)                                                           \
    POINT(refund_step_written)                                                     \
    POINT(answer_applied)                                                          \
    POINT(answer_recorded)                                                         \
    POINT(record_committing)                                                       \
    POINT(answers_committed)                                                       \
    POINT(answer_released)                                                         \
    /* The worker takes over lost leases, and gives up what has no gateway. */     \
    POINT(lease_found)                                                             \
    POINT(lease_loss_recorded)                                                     \
    POINT(lease_ended)                                                             \
    POINT(leases_recovered)                                                        \
    POINT(give_up_locked)                                                          \
    POINT(given_up)

// Scopes of the C++ phase.
#define PAYONCE_ALLOCATION_POINTS(POINT) \
    POINT(engine_configure)              \
    POINT(engine_start)                  \
    POINT(engine_give_back)              \
    POINT(engine_advance)                \
    POINT(notice_keep_gateway)           \
    POINT(notice_read)

#define PAYONCE_ENUMERATOR(name) name,
enum class FaultPoint : std::uint8_t { PAYONCE_FAULT_POINTS(PAYONCE_ENUMERATOR) };
enum class AllocationPoint : std::uint8_t { PAYONCE_ALLOCATION_POINTS(PAYONCE_ENUMERATOR) };
#undef PAYONCE_ENUMERATOR

#ifdef PAYONCE_TEST_FAULTS

void define_fault_settings();
// PG phase: may ereport.
void fault_point(FaultPoint point);
// Whether the test wants this step left out, to show that it is missed: the setting
// payonce.test_fault is "STEP=skip".
bool is_left_out(const char* step);

// C++ phase: until it is destroyed, `new` throws std::bad_alloc where the test wants it.
class AllocationFault {
  public:
    explicit AllocationFault(AllocationPoint point) noexcept;
    ~AllocationFault();
    AllocationFault(const AllocationFault&) = delete;
    AllocationFault& operator=(const AllocationFault&) = delete;
};

// What the parts of both phases share: no ereport, no exception, no allocation.
namespace fault_file {
inline constexpr int max_bytes = 64;
// Reads what shall happen at a point of this process's database. False: nothing.
bool read(const char* point, char (&action)[max_bytes]) noexcept;
// Renames the file. False: somebody else was faster.
bool take(const char* point) noexcept;
// Whether it is still there under its new name.
bool is_taken(const char* point) noexcept;
}  // namespace fault_file

#else

inline void define_fault_settings() {}
constexpr void fault_point(FaultPoint /*point*/) {}
constexpr bool is_left_out(const char* /*step*/) {
    return false;
}
class [[maybe_unused]] AllocationFault {
  public:
    constexpr explicit AllocationFault(AllocationPoint /*point*/) noexcept {}
};

#endif

}  // namespace payonce::pg
