#include "pg/fault_point.h"

#ifdef PAYONCE_TEST_FAULTS

#include <csignal>
#include <cstring>

#include "pg/pg.h"

namespace payonce::pg {
namespace {

constexpr int stop_check_ms = 10;

#define PAYONCE_NAME(name) #name,
constexpr const char* point_names[] = {PAYONCE_FAULT_POINTS(PAYONCE_NAME)};
#undef PAYONCE_NAME
#define PAYONCE_WORD(name) " " #name
constexpr const char* all_points = PAYONCE_FAULT_POINTS(PAYONCE_WORD);
constexpr const char* all_allocation_points = PAYONCE_ALLOCATION_POINTS(PAYONCE_WORD);
#undef PAYONCE_WORD

char* left_out = nullptr;
char* listed_points = nullptr;
char* listed_allocation_points = nullptr;

void define_list(const char* name, const char* list, char** variable) {
    DefineCustomStringVariable(name, "The fault points of this build for tests.", nullptr, variable,
                               list + 1, PGC_INTERNAL, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                               nullptr);
}

void wait_until_let_go(const char* point) {
    while (fault_file::is_taken(point)) {
        // Not for the latch: what was to wake the process shall find it set afterwards.
        (void)WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, stop_check_ms,
                        PG_WAIT_EXTENSION);
        CHECK_FOR_INTERRUPTS();
    }
}

void act(const char* point, const char* action) {
    if (std::strcmp(action, "error") == 0) {
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("fault at %s", point)));
    } else if (std::strcmp(action, "disk full") == 0) {
        ereport(ERROR, (errcode(ERRCODE_DISK_FULL), errmsg("disk full at %s", point)));
    } else if (std::strcmp(action, "out of memory") == 0) {
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
                        errdetail("Fault at %s.", point)));
    } else if (std::strcmp(action, "exit") == 0) {
        ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("exit at %s", point)));
    } else if (std::strcmp(action, "crash") == 0) {
        (void)kill(getpid(), SIGKILL);
    } else if (std::strcmp(action, "stop") == 0) {
        wait_until_let_go(point);
    } else {
        ereport(FATAL, (errmsg("fault point %s: there is no action \"%s\"", point, action)));
    }
}

// Relative to the data directory, in which all of the server's processes live.
struct Path {
    Path(const char* point, const char* suffix) noexcept {
        (void)snprintf(text, sizeof text, "payonce_faults/%u/%s%s", MyDatabaseId, point, suffix);
    }
    char text[256];
};

}  // namespace

namespace fault_file {

bool read(const char* point, char (&action)[max_bytes]) noexcept {
    const int fd = ::open(Path(point, "").text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    const ssize_t bytes = ::read(fd, action, max_bytes - 1);
    (void)::close(fd);
    action[bytes > 0 ? bytes : 0] = '\0';
    return true;
}

bool take(const char* point) noexcept {
    return ::rename(Path(point, "").text, Path(point, ".hit").text) == 0;
}

bool is_taken(const char* point) noexcept {
    return ::access(Path(point, ".hit").text, F_OK) == 0;
}

}  // namespace fault_file

void define_fault_settings() {
    DefineCustomStringVariable("payonce.test_fault", "Which step is left out: STEP=skip.", nullptr,
                               &left_out, "", PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    define_list("payonce.test_fault_points", all_points, &listed_points);
    define_list("payonce.test_allocation_points", all_allocation_points, &listed_allocation_points);
}

void fault_point(FaultPoint point) {
    const char* name = point_names[static_cast<std::size_t>(point)];
    char action[fault_file::max_bytes];
    if (fault_file::read(name, action) && fault_file::take(name)) {
        act(name, action);
    }
}

bool is_left_out(const char* step) {
    const std::size_t length = std::strlen(step);
    return std::strncmp(left_out, step, length) == 0 &&
           std::strcmp(left_out + length, "=skip") == 0;
}

}  // namespace payonce::pg

#endif
