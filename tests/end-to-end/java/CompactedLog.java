import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What goes into a compacted log, and what is left in it.
 *
 * <p>`fill BROKER TOPIC RECORDS KEYS` writes the same records to partition 0 wherever it is run, at the same offsets: in turn plain
 * ones and transactions, of which every second is aborted; one in twenty is a tombstone. `survivors BROKER TOPIC FILE` reads
 * what was committed, prints how many records that were, and writes the last record of each key that isn't deleted into FILE, a line
 * "KEY OFFSET VALUE" each, by key.
 */
public final class CompactedLog {
    /** Records that are written in one go: by the plain producer, or in a transaction. */
    private static final int TURN = 5_000;
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private CompactedLog() {}

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "fill" ->
                fill(arguments[1], arguments[2], Long.parseLong(arguments[3]), Integer.parseInt(arguments[4]));
            case "survivors" -> survivors(arguments[1], arguments[2], Path.of(arguments[3]));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void fill(String broker, String topic, long records, int keys) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", broker);
        settings.put("linger.ms", "20");
        settings.put("batch.size", "131072");
        settings.put("compression.type", "lz4");
        Properties transactional = new Properties();
        transactional.putAll(settings);
        transactional.put("transactional.id", "compacted-log");
        Random random = new Random(1);
        AtomicReference<Exception> failure = new AtomicReference<>();
        var strings = new StringSerializer();
        try (var plain = new KafkaProducer<>(settings, strings, strings);
                var inTransactions = new KafkaProducer<>(transactional, strings, strings)) {
            inTransactions.initTransactions();
            for (long written = 0; written < records; written += TURN) {
                long turn = written / TURN % 4;
                var producer = turn % 2 == 0 ? plain : inTransactions;
                if (producer == inTransactions) {
                    producer.beginTransaction();
                }
                for (long number = written; number < Math.min(records, written + TURN); number++) {
                    String key = "key-" + random.nextInt(keys);
                    String value = random.nextInt(20) == 0 ? null : "value " + number;
                    producer.send(new ProducerRecord<>(topic, 0, key, value), (where, error) -> {
                        // Those of a transaction that is aborted may be told so.
                        if (error != null && turn != 3) {
                            failure.compareAndSet(null, error);
                        }
                    });
                }
                // What was sent is to be in the log, also of what is aborted: offsets must not depend on the moment.
                producer.flush();
                if (turn == 1) {
                    producer.commitTransaction();
                } else if (turn == 3) {
                    producer.abortTransaction();
                }
            }
        }
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    private static void survivors(String broker, String topic, Path file) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", broker);
        settings.put("isolation.level", "read_committed");
        settings.put("fetch.max.bytes", "8388608");
        settings.put("max.partition.fetch.bytes", "8388608");
        Map<String, String> last = new TreeMap<>();
        long records = 0;
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition), PATIENCE).get(partition);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500)).records(partition)) {
                    records++;
                    deadline = System.nanoTime() + PATIENCE.toNanos();
                    if (record.value() == null) {
                        last.remove(record.key());
                    } else {
                        last.put(record.key(), record.offset() + " " + record.value());
                    }
                }
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("nothing comes behind " + consumer.position(partition) + " of " + end);
                }
            }
        }
        try (var out = new PrintWriter(Files.newBufferedWriter(file))) {
            last.forEach((key, where) -> out.println(key + " " + where));
        }
        System.out.println("records " + records);
    }
}
