// pay_callback_batch: many callbacks in one transaction and one commit.
//
// No two batches may wait for one another in a circle. So a batch first finds out which orders its
// callbacks are about, then takes all their advisory locks in the order of the keys, and only then
// writes. It decides order by order in the order of their ids, and so locks rows of t_order as
// somebody does who locks several by hand; callbacks of one order are decided as the arrays have
// them.
#include "core/decide.h"
#include "core/identifiers.h"

#include <algorithm>
#include <string_view>

#include "pg/arguments.h"
#include "pg/durability.h"
#include "pg/lock.h"
#include "pg/pay_callback.h"
#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

constexpr int max_callbacks = 10'000;

constexpr const char* outcome_unknown = "unknown";
constexpr const char* outcome_invalid = "invalid";

struct BatchArrays {
    int count;
    Datum* payment_ids;
    bool* id_is_null;
    Datum* successes;
    bool* success_is_null;
};

// A callback whose payment has an order: what is left to decide.
struct Element {
    int place;  // in the arrays, from 0
    std::string_view payment_id;
    std::string_view order_id;
    std::int64_t lock_key;
    bool success;
};

struct Batch {
    BatchArrays arrays;
    const char** outcomes;  // by place
    Element* elements;
    int element_count;
};

int length_of(ArrayType* array, const char* name) {
    if (ARR_NDIM(array) > 1) {
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
                        errmsg("%s must have one dimension, not %d", name, ARR_NDIM(array)),
                        errdetail("Nothing was recorded."), errhint("Pass a plain array.")));
    }
    return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

BatchArrays read_arrays(FunctionCallInfo fcinfo) {
    require_value(fcinfo, 0, "out_order_no");
    require_value(fcinfo, 1, "pay_success");
    ArrayType* ids = PG_GETARG_ARRAYTYPE_P(0);
    ArrayType* successes = PG_GETARG_ARRAYTYPE_P(1);
    const int count = length_of(ids, "out_order_no");
    const int success_count = length_of(successes, "pay_success");
    if (count != success_count) {
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
                        errmsg("out_order_no and pay_success must be equally long"),
                        errdetail("out_order_no has %d elements, pay_success has %d. Nothing was "
                                  "recorded.",
                                  count, success_count),
                        errhint("Pass one of each for every callback.")));
    }
    if (count > max_callbacks) {
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("a batch of %d callbacks is too large", count),
                 errdetail("At most %d are taken at once. Nothing was recorded.", max_callbacks),
                 errhint("Divide it into several.")));
    }
    BatchArrays arrays = {};
    arrays.count = count;
    int ignored = 0;
    deconstruct_array(ids, TEXTOID, -1, false, TYPALIGN_INT, &arrays.payment_ids,
                      &arrays.id_is_null, &ignored);
    deconstruct_array(successes, BOOLOID, 1, true, TYPALIGN_CHAR, &arrays.successes,
                      &arrays.success_is_null, &ignored);
    return arrays;
}

std::string_view view_of(Datum datum) {
    const text* value = DatumGetTextPP(datum);
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

// Learns the order of each payment. Neither locks nor writes: it is read again under the lock.
void find_orders(const char* schema, Batch* batch) {
    const BatchArrays& arrays = batch->arrays;
    const MemoryContext kept = CurrentMemoryContext;
    for (int place = 0; place < arrays.count; ++place) {
        Element element = {};
        element.place = place;
        if (!arrays.id_is_null[place]) {
            element.payment_id = view_of(arrays.payment_ids[place]);
        }
        if (arrays.success_is_null[place] || !core::is_payment_id(element.payment_id)) {
            batch->outcomes[place] = outcome_invalid;
            continue;
        }
        element.success = DatumGetBool(arrays.successes[place]);
        with_memory_of_its_own([&] {
            PaymentRow found;
            if (!read_payment(schema, element.payment_id, RowLock::none, &found)) {
                batch->outcomes[place] = outcome_unknown;
                return;
            }
            element.order_id = {text_copy(kept, found.order_id), found.order_id.size()};
            element.lock_key = order_lock_key(element.order_id);
            batch->elements[batch->element_count++] = element;
        });
    }
}

void lock_orders(Batch* batch) {
    Element* end = batch->elements + batch->element_count;
    std::sort(batch->elements, end,
              [](const Element& a, const Element& b) { return a.lock_key < b.lock_key; });
    for (const Element* element = batch->elements; element != end; ++element) {
        if (element == batch->elements || element[-1].lock_key != element->lock_key) {
            lock_order(element->order_id);
        }
    }
}

// Any error ends the whole batch: it says because of which callback.
void describe_element(void* argument) {
    const auto* element = static_cast<const Element*>(argument);
    errcontext("callback %d of the batch, of payment \"%.*s\"", element->place + 1,
               static_cast<int>(element->payment_id.size()), element->payment_id.data());
}

const char* decide_element(const char* schema, Element* element) {
    ErrorContextCallback description = {};
    description.previous = error_context_stack;
    description.callback = describe_element;
    description.arg = element;
    error_context_stack = &description;
    Callback callback;
    callback.payment_id = element->payment_id;
    callback.news.success = element->success;
    const char* outcome = nullptr;
    with_memory_of_its_own(
        [&] { outcome = core::name_of(decide_under_lock(schema, element->order_id, callback)); });
    error_context_stack = description.previous;
    return outcome;
}

void decide_elements(const char* schema, Batch* batch) {
    Element* end = batch->elements + batch->element_count;
    std::sort(batch->elements, end, [](const Element& a, const Element& b) {
        const int difference = a.order_id.compare(b.order_id);
        return difference != 0 ? difference < 0 : a.place < b.place;
    });
    for (Element* element = batch->elements; element != end; ++element) {
        batch->outcomes[element->place] = decide_element(schema, element);
    }
}

void put_outcomes(ReturnSetInfo* result, const Batch& batch) {
    for (int place = 0; place < batch.arrays.count; ++place) {
        Datum values[2] = {batch.arrays.payment_ids[place],
                           CStringGetTextDatum(batch.outcomes[place])};
        bool nulls[2] = {batch.arrays.id_is_null[place], false};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_pay_callback_batch);

Datum payonce_pay_callback_batch(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    InitMaterializedSRF(fcinfo, 0);
    Batch batch = {};
    batch.arrays = read_arrays(fcinfo);
    const auto count = static_cast<std::size_t>(batch.arrays.count);
    batch.outcomes = static_cast<const char**>(palloc0(count * sizeof(const char*)));
    batch.elements = static_cast<Element*>(palloc(count * sizeof(Element)));
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    begin_decision();
    find_orders(schema, &batch);
    lock_orders(&batch);
    decide_elements(schema, &batch);
    put_outcomes(reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo), batch);
    return 0;
}
}
