/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of parquet_internal.h: Apache Arrow's C++ library.
 *
 * Row groups are read one after another, each in batches of a few rows, a page of
 * each wanted column at a time, so that memory does not grow with the row group.
 * Arrow's memory is capped: a damaged file may ask for any amount.
 *
 * Arrow tells faults by Status, or throws; here all of them become exceptions, and
 * guarded() turns those into errors at the seam.
 */
#include "libdata/source/parquet_internal.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/exception.h>

namespace
{

constexpr int64_t kBatchBytes = 8 << 20;
constexpr int64_t kBatchRowsMax = 1024;
constexpr int64_t kArrowBytesMax = int64_t(2) << 30;
constexpr int kDepthMax = 32; /* of lists and structs in one another */

/* One row, not the file, is unusable. */
struct RowFault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct NoMemory {
};

void check(const arrow::Status &status)
{
    if (!status.ok())
        throw std::runtime_error(status.message());
}

template <typename T>
T check(arrow::Result<T> result)
{
    check(result.status());
    return std::move(result).ValueUnsafe();
}

/* A reference that is given back. */
struct Json {
    json_t *json;
    explicit Json(json_t *taken)
        : json(taken)
    {
        if (!json)
            throw NoMemory();
    }
    Json(const Json &) = delete;
    Json &operator=(const Json &) = delete;
    ~Json()
    {
        json_decref(json);
    }
    json_t *take()
    {
        json_t *taken = json;
        json = nullptr;
        return taken;
    }
};

/* --- values ----------------------------------------------------------------------- */

bool is_bytes(const arrow::DataType &type)
{
    return type.id() == arrow::Type::BINARY || type.id() == arrow::Type::LARGE_BINARY ||
           type.id() == arrow::Type::BINARY_VIEW ||
           type.id() == arrow::Type::FIXED_SIZE_BINARY;
}

bool is_list(const arrow::DataType &type)
{
    return type.id() == arrow::Type::LIST || type.id() == arrow::Type::LARGE_LIST ||
           type.id() == arrow::Type::FIXED_SIZE_LIST;
}

/* Has JSON a word for values of this type? */
bool is_readable(const arrow::DataType &type, int depth)
{
    if (depth > kDepthMax)
        return false;
    if (type.id() == arrow::Type::EXTENSION)
        return is_readable(
            *static_cast<const arrow::ExtensionType &>(type).storage_type(), depth + 1);
    if (type.id() == arrow::Type::DICTIONARY)
        return is_readable(
            *static_cast<const arrow::DictionaryType &>(type).value_type(), depth + 1);
    if (is_list(type) || type.id() == arrow::Type::STRUCT)
        return std::all_of(type.fields().begin(), type.fields().end(),
                           [&](const std::shared_ptr<arrow::Field> &field) {
                               return is_readable(*field->type(), depth + 1);
                           });
    return type.id() == arrow::Type::NA || type.id() == arrow::Type::BOOL ||
           arrow::is_primitive(type.id()) || arrow::is_decimal(type.id()) ||
           arrow::is_string(type.id()) || type.id() == arrow::Type::STRING_VIEW;
}

/* Dictionaries and extensions looked through: @array and @i become what is meant. */
void look_through(std::shared_ptr<arrow::Array> &array, int64_t &i)
{
    for (;;) {
        if (array->type_id() == arrow::Type::EXTENSION) {
            array = static_cast<const arrow::ExtensionArray &>(*array).storage();
        } else if (array->type_id() == arrow::Type::DICTIONARY && !array->IsNull(i)) {
            const auto &coded = static_cast<const arrow::DictionaryArray &>(*array);
            i = coded.GetValueIndex(i);
            array = coded.dictionary();
        } else {
            return;
        }
    }
}

/* "2024-05-01 10:00:00Z" as ISO 8601 has it. */
std::string iso_text(const arrow::Array &array, int64_t i)
{
    std::string text = check(array.GetScalar(i))->ToString();

    if (array.type_id() == arrow::Type::TIMESTAMP)
        std::replace(text.begin(), text.end(), ' ', 'T');
    return text;
}

json_t *text_value(std::string_view text)
{
    json_t *json = json_stringn(text.data(), text.size());

    /* The row is small and there was memory for it: this is no lack of memory. */
    if (!json)
        throw RowFault("not UTF-8");
    return json;
}

json_t *real_value(double number)
{
    return std::isfinite(number) ? json_real(number) : json_null();
}

template <typename ArrayType>
auto value_of(const arrow::Array &array, int64_t i)
{
    return static_cast<const ArrayType &>(array).GetView(i);
}

json_t *json_value(std::shared_ptr<arrow::Array> array, int64_t i);

/* Rows @begin to @end of @values, as a list. */
json_t *list_value(const std::shared_ptr<arrow::Array> &values, int64_t begin,
                   int64_t end)
{
    Json list(json_array());

    for (int64_t i = begin; i < end; i++)
        if (json_array_append_new(list.json, json_value(values, i)) < 0)
            throw NoMemory();
    return list.take();
}

template <typename ArrayType>
json_t *list_of(const arrow::Array &array, int64_t i)
{
    const auto &lists = static_cast<const ArrayType &>(array);
    return list_value(lists.values(), lists.value_offset(i),
                      lists.value_offset(i) + lists.value_length(i));
}

json_t *struct_value(const arrow::StructArray &array, int64_t i)
{
    Json object(json_object());

    for (int k = 0; k < array.num_fields(); k++) {
        const std::string &name = array.struct_type()->field(k)->name();
        if (json_object_set_new(object.json, name.c_str(),
                                json_value(array.field(k), i)) < 0)
            throw RowFault("a name that is not UTF-8");
    }
    return object.take();
}

json_t *json_value(std::shared_ptr<arrow::Array> array, int64_t i)
{
    look_through(array, i);
    if (array->IsNull(i))
        return json_null();
    switch (array->type_id()) {
    case arrow::Type::NA:
        return json_null();
    case arrow::Type::BOOL:
        return json_boolean(value_of<arrow::BooleanArray>(*array, i));
    case arrow::Type::INT8:
        return json_integer(value_of<arrow::Int8Array>(*array, i));
    case arrow::Type::INT16:
        return json_integer(value_of<arrow::Int16Array>(*array, i));
    case arrow::Type::INT32:
        return json_integer(value_of<arrow::Int32Array>(*array, i));
    case arrow::Type::INT64:
        return json_integer(value_of<arrow::Int64Array>(*array, i));
    case arrow::Type::UINT8:
        return json_integer(value_of<arrow::UInt8Array>(*array, i));
    case arrow::Type::UINT16:
        return json_integer(value_of<arrow::UInt16Array>(*array, i));
    case arrow::Type::UINT32:
        return json_integer(value_of<arrow::UInt32Array>(*array, i));
    case arrow::Type::UINT64: {
        /* Above what JSON readers take for an integer, the digits as text. */
        uint64_t number = value_of<arrow::UInt64Array>(*array, i);
        return number <= INT64_MAX ? json_integer(static_cast<json_int_t>(number))
                                   : text_value(std::to_string(number));
    }
    case arrow::Type::FLOAT:
        return real_value(value_of<arrow::FloatArray>(*array, i));
    case arrow::Type::DOUBLE:
        return real_value(value_of<arrow::DoubleArray>(*array, i));
    case arrow::Type::HALF_FLOAT:
        return real_value(std::stod(iso_text(*array, i)));
    case arrow::Type::STRING:
        return text_value(value_of<arrow::StringArray>(*array, i));
    case arrow::Type::LARGE_STRING:
        return text_value(value_of<arrow::LargeStringArray>(*array, i));
    case arrow::Type::STRING_VIEW:
        return text_value(value_of<arrow::StringViewArray>(*array, i));
    case arrow::Type::LIST:
        return list_of<arrow::ListArray>(*array, i);
    case arrow::Type::LARGE_LIST:
        return list_of<arrow::LargeListArray>(*array, i);
    case arrow::Type::FIXED_SIZE_LIST:
        return list_of<arrow::FixedSizeListArray>(*array, i);
    case arrow::Type::STRUCT:
        return struct_value(static_cast<const arrow::StructArray &>(*array), i);
    default: /* dates, times, decimals */
        return text_value(iso_text(*array, i));
    }
}

/* The bytes at @i of a column of bytes; false: null, or no such column. */
bool bytes_value(std::shared_ptr<arrow::Array> array, int64_t i,
                 std::string_view &bytes)
{
    look_through(array, i);
    if (array->IsNull(i))
        return false;
    switch (array->type_id()) {
    case arrow::Type::BINARY:
        bytes = value_of<arrow::BinaryArray>(*array, i);
        return true;
    case arrow::Type::LARGE_BINARY:
        bytes = value_of<arrow::LargeBinaryArray>(*array, i);
        return true;
    case arrow::Type::BINARY_VIEW:
        bytes = value_of<arrow::BinaryViewArray>(*array, i);
        return true;
    case arrow::Type::FIXED_SIZE_BINARY:
        bytes = value_of<arrow::FixedSizeBinaryArray>(*array, i);
        return true;
    default:
        return false;
    }
}

/* A struct as the Hugging Face data sets have it: {bytes, path}, either may be null. */
bool is_image_struct(const arrow::DataType &type)
{
    if (type.id() != arrow::Type::STRUCT)
        return false;
    auto bytes = static_cast<const arrow::StructType &>(type).GetFieldByName("bytes");
    return bytes && is_bytes(*bytes->type());
}

} // namespace

/* --- the file --------------------------------------------------------------------- */

struct prx_parquet {
    /* Before all that takes memory from it. */
    arrow::CappedMemoryPool pool{arrow::system_memory_pool(), kArrowBytesMax};
    std::unique_ptr<parquet::arrow::FileReader> reader;
    std::shared_ptr<arrow::Schema> schema;
    Json names{json_object()};
    std::string image;
    std::vector<int> leaves; /* the Parquet columns of all columns that are read */

    int i_group = 0;                                   /* of the next row group */
    std::unique_ptr<arrow::RecordBatchReader> batches; /* of the group before that */
    std::shared_ptr<arrow::RecordBatch> batch;
    int64_t i_in_batch = 0;
    uint64_t i_row = 0;
    bool is_over = false;

    void open(const char *path);
    bool find_row();
    void read_row(json_t *values, struct prx_buf **bytes);

  private:
    void open_group();
    void read_image(const std::shared_ptr<arrow::Array> &array, json_t *values,
                    struct prx_buf **bytes);
};

void prx_parquet::open(const char *path)
{
    parquet::ReaderProperties how(&pool);
    parquet::ArrowReaderProperties how_arrow(false);
    parquet::arrow::FileReaderBuilder builder;

    how.enable_buffered_stream(); /* pages, not whole columns of a row group */
    how.set_page_checksum_verification(true);
    how_arrow.set_pre_buffer(false);
    check(builder.Open(check(arrow::io::ReadableFile::Open(path, &pool)), how));
    check(builder.memory_pool(&pool)->properties(how_arrow)->Build(&reader));
    check(reader->GetSchema(&schema));
    for (const auto &field : schema->fields()) {
        if (json_object_get(names.json, field->name().c_str()))
            throw std::runtime_error("two columns are named " + field->name());
        if (json_object_set_new(names.json, field->name().c_str(), json_null()) < 0)
            throw std::runtime_error("the names of the columns are not UTF-8");
    }
}

/* So many rows a batch that a batch is a few megabytes, as far as the group tells. */
void prx_parquet::open_group()
{
    const auto group = reader->parquet_reader()->metadata()->RowGroup(i_group);
    int64_t n_rows = std::max<int64_t>(group->num_rows(), 1), n_bytes = 0;

    for (int leaf : leaves) {
        const int64_t n_more = group->ColumnChunk(leaf)->total_uncompressed_size();
        n_bytes += std::clamp<int64_t>(n_more, 0, int64_t(1) << 40);
    }
    int64_t n_row_bytes = n_bytes / n_rows + 1;
    reader->set_batch_size(std::clamp<int64_t>(kBatchBytes / n_row_bytes, 1,
                                               kBatchRowsMax));
    batches = check(reader->GetRecordBatchReader({i_group}, leaves));
    i_group++;
}

/* Is there another row?  Then it is at i_in_batch of batch. */
bool prx_parquet::find_row()
{
    while (!batch || i_in_batch == batch->num_rows()) {
        if (!batches) {
            if (i_group == reader->num_row_groups())
                return false;
            open_group();
        }
        i_in_batch = 0;
        check(batches->ReadNext(&batch));
        if (!batch)
            batches.reset();
        else
            check(batch->Validate());
    }
    return true;
}

void prx_parquet::read_image(const std::shared_ptr<arrow::Array> &array, json_t *values,
                             struct prx_buf **bytes)
{
    std::shared_ptr<arrow::Array> text = array, picture = array;
    std::string_view found;

    if (array->IsNull(i_in_batch))
        return;
    if (is_image_struct(*array->type())) {
        const auto &both = static_cast<const arrow::StructArray &>(*array);
        picture = both.GetFieldByName("bytes");
        text = both.GetFieldByName("path");
    }
    if (bytes_value(picture, i_in_batch, found)) {
        if (prx_buf_dup(found.data(), found.size(), bytes) < 0)
            throw NoMemory();
    } else if (text && is_readable(*text->type(), 0)) {
        if (json_object_set_new(values, image.c_str(),
                                json_value(text, i_in_batch)) < 0)
            throw NoMemory();
    }
}

void prx_parquet::read_row(json_t *values, struct prx_buf **bytes)
{
    for (int k = 0; k < batch->num_columns(); k++) {
        const std::string &name = batch->column_name(k);
        const std::shared_ptr<arrow::Array> &array = batch->column(k);
        try {
            if (name == image)
                read_image(array, values, bytes);
            else if (json_object_set_new(values, name.c_str(),
                                         json_value(array, i_in_batch)) < 0)
                throw NoMemory();
        } catch (const RowFault &fault) {
            throw RowFault("column " + name + ": " + fault.what());
        }
    }
}

namespace
{

/* What Arrow says may go on for lines, about its own source. */
std::string first_line(const char *what)
{
    const std::string text = what;
    return text.substr(0, text.find('\n'));
}

/* Run @body; what it throws becomes an error. */
template <typename Body>
int guarded(Body body) noexcept
{
    try {
        return body();
    } catch (const RowFault &fault) {
        return prx_err(PRX_ECORRUPT, "%s", fault.what());
    } catch (const NoMemory &) {
        return prx_err_nomem("a row");
    } catch (const std::bad_alloc &) {
        return prx_err_nomem("Parquet");
    } catch (const std::exception &fault) {
        return prx_err(PRX_ECORRUPT, "%s", first_line(fault.what()).c_str());
    } catch (...) {
        return prx_err(PRX_ECORRUPT, "damaged");
    }
}

/* The rest of the file cannot be read: say how much that is. */
int tear(struct prx_parquet *file, int rc)
{
    file->is_over = true;
    return guarded([&] {
        const int64_t n_rows = file->reader->parquet_reader()->metadata()->num_rows();
        const int64_t n_left = n_rows - static_cast<int64_t>(file->i_row);
        return prx_err_frame(rc,
                             "row group %d: the last %lld rows of the file are lost",
                             std::max(file->i_group - 1, 0),
                             static_cast<long long>(std::max<int64_t>(n_left, 0)));
    });
}

} // namespace

/* --- the seam --------------------------------------------------------------------- */

int prx_parquet_open(const char *path, struct prx_parquet **out)
{
    return guarded([&] {
        auto file = std::make_unique<prx_parquet>();
        file->open(path);
        *out = file.release();
        return 0;
    });
}

const json_t *prx_parquet_columns(const struct prx_parquet *file)
{
    return file->names.json;
}

int prx_parquet_choose(struct prx_parquet *file, const char *image,
                       struct prx_str *dropped)
{
    return guarded([&] {
        const parquet::SchemaDescriptor *columns =
            file->reader->parquet_reader()->metadata()->schema();
        file->image = image ? image : "";
        std::vector<bool> is_read;
        for (const auto &field : file->schema->fields()) {
            const bool is_image = image && field->name() == image;
            is_read.push_back(is_readable(*field->type(), 0) ||
                              (is_image && (is_bytes(*field->type()) ||
                                            is_image_struct(*field->type()))));
            if (!is_read.back())
                PRX_TRY(prx_str_printf(dropped, "%s%s", dropped->n_bytes ? ", " : "",
                                       field->name().c_str()));
        }
        for (int i = 0; i < columns->num_columns(); i++) {
            const int k = columns->group_node()->FieldIndex(*columns->GetColumnRoot(i));
            if (k >= 0 && is_read.at(static_cast<size_t>(k)))
                file->leaves.push_back(i);
        }
        return 0;
    });
}

int prx_parquet_next(struct prx_parquet *file, json_t **values, struct prx_buf **image,
                     uint64_t *i_row)
{
    *i_row = file->i_row;
    if (file->is_over)
        return 0;
    int got = guarded([&] { return static_cast<int>(file->find_row()); });
    if (got < 0)
        return tear(file, got);
    if (got == 0)
        return 0;
    file->i_row++;
    got = guarded([&] {
        Json row(json_object());
        file->read_row(row.json, image);
        *values = row.take();
        return 1;
    });
    file->i_in_batch++;
    return got;
}

void prx_parquet_close(struct prx_parquet *file)
{
    (void)guarded([&] {
        delete file;
        return 0;
    });
}

const struct prx_parquet_ops prx_parquet_ops = {
    prx_parquet_open,
    prx_parquet_columns,
    prx_parquet_choose,
    prx_parquet_next,
    prx_parquet_close,
};
