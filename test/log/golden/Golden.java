import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Random;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.utils.Utils;

/** Writes record batches with Kafka's own code, or prints batches that others wrote: README.md. */
public class Golden {
    public static void main(String[] args) throws IOException {
        if (args[0].equals("write")) write(Path.of(args[1]));
        else for (int i = 1; i < args.length; i++) print(Path.of(args[i]));
    }

    static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static void write(Path folder) throws IOException {
        for (CompressionType type : CompressionType.values()) {
            Files.write(folder.resolve(type.name + ".bin"), bytes(records(type, 0)));
        }
        Files.write(folder.resolve("many.bin"), many());
        Files.write(folder.resolve("commit.bin"), bytes(marker(ControlRecordType.COMMIT)));
        Files.write(folder.resolve("abort.bin"), bytes(marker(ControlRecordType.ABORT)));
        MemoryRecordsBuilder appended = MemoryRecords.builder(ByteBuffer.allocate(512),
            RecordBatch.MAGIC_VALUE_V2, Compression.NONE, TimestampType.LOG_APPEND_TIME, 7L,
            1700000000999L);
        appended.append(1700000000000L, utf8("key"), utf8("value"));
        Files.writeString(folder.resolve("murmur2.txt"), murmur2());
        Files.write(folder.resolve("log-append-time.bin"), bytes(appended.build()));
    }

    static MemoryRecords records(CompressionType type, long baseOffset) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(4096),
            RecordBatch.MAGIC_VALUE_V2, Compression.of(type).build(), TimestampType.CREATE_TIME,
            baseOffset, RecordBatch.NO_TIMESTAMP, 4242L, (short) 7, 99, true, 3);
        builder.append(1700000000000L, utf8("key"), utf8("value"));
        builder.append(1699999999000L, null, utf8("null key, earlier"));
        builder.append(1700000000001L, utf8("tombstone"), null);
        builder.append(1700000000002L, utf8(""), utf8(""));
        builder.append(1700000000003L, utf8("headers"), utf8("v"), new Header[] {
            new RecordHeader("ce_id", utf8("01")), new RecordHeader("null", (byte[]) null),
            new RecordHeader("ü", utf8("")), new RecordHeader("ce_id", utf8("02"))});
        builder.append(4102444800000L, utf8("much later"), utf8("x".repeat(300)));
        return builder.build();
    }

    /** 1000 records, so that lengths and deltas take several bytes; then two small batches. */
    static byte[] many() {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16),
            Compression.NONE, TimestampType.CREATE_TIME, 1000L);
        for (int i = 0; i < 1000; i++) {
            builder.append(1700000000000L + i * 37L, utf8("key-" + i), utf8("v".repeat(i % 70)));
        }
        ByteBuffer all = ByteBuffer.allocate(1 << 17);
        all.put(bytes(builder.build()));
        all.put(bytes(records(CompressionType.GZIP, 2000L)));
        all.put(bytes(records(CompressionType.NONE, 3000L)));
        byte[] out = new byte[all.position()];
        all.flip().get(out);
        return out;
    }

    /** Keys in hex, their hash and their partition of 12. */
    static String murmur2() {
        Random random = new Random(1);
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 100; i++) {
            byte[] key = new byte[1 + i % 40];
            random.nextBytes(key);
            int hash = Utils.murmur2(key);
            lines.append(HexFormat.of().formatHex(key)).append(' ').append(hash).append(' ')
                .append(Utils.toPositive(hash) % 12).append('\n');
        }
        return lines.toString();
    }

    static MemoryRecords marker(ControlRecordType type) {
        return MemoryRecords.withEndTransactionMarker(5L, 1700000000000L, 3, 4242L, (short) 7,
            new EndTransactionMarker(type, 11));
    }

    static byte[] bytes(MemoryRecords records) {
        byte[] out = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(out);
        return out;
    }

    static void print(Path file) throws IOException {
        ByteBuffer all = ByteBuffer.wrap(Files.readAllBytes(file));
        for (RecordBatch batch : MemoryRecords.readableRecords(all).batches()) {
            batch.ensureValid();
            for (org.apache.kafka.common.record.internal.Record record : batch) {
                record.ensureValid();
                StringBuilder headers = new StringBuilder();
                for (Header header : record.headers()) {
                    headers.append(' ').append(header.key()).append('=').append(text(header.value()));
                }
                System.out.println(record.offset() + " " + record.timestamp() + " "
                    + text(record.hasKey() ? bytes(record.key()) : null) + " "
                    + text(record.hasValue() ? bytes(record.value()) : null) + headers);
            }
        }
    }

    static byte[] bytes(ByteBuffer buffer) {
        byte[] out = new byte[buffer.remaining()];
        buffer.duplicate().get(out);
        return out;
    }

    static String text(byte[] bytes) {
        return bytes == null ? "null" : "'" + new String(bytes, StandardCharsets.UTF_8) + "'";
    }
}
