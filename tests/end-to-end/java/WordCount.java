import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.Stores;

/**
 * Words in, their counts out, exactly once.
 *
 * <p>`write BROKER TOPIC WORDS WORDS_PER_SECOND` writes words and then prints how often it wrote each; it fails if one
 * was not acknowledged. `count BROKER FROM TO FOLDER` counts them with Kafka Streams: each word moves its count up by
 * one, and every such step is a record "WORD COUNT" in TO. It runs until it is killed or fails.
 */
public final class WordCount {
    private static final int VOCABULARY = 50;

    private WordCount() {}

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "write" ->
                write(arguments[1], arguments[2], Long.parseLong(arguments[3]), Long.parseLong(arguments[4]));
            case "count" -> count(arguments[1], arguments[2], arguments[3], arguments[4]);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void write(String broker, String topic, long words, long perSecond) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", broker);
        settings.put("linger.ms", "5");
        // A broker that is away must not cost a word.
        settings.put("delivery.timeout.ms", String.valueOf(Integer.MAX_VALUE));
        settings.put("max.block.ms", String.valueOf(Integer.MAX_VALUE));
        Map<String, Long> written = new TreeMap<>();
        AtomicReference<Exception> failure = new AtomicReference<>();
        Random random = new Random(1);
        long begin = System.nanoTime();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (long number = 0; number < words; number++) {
                long due = begin + number * 1_000_000_000L / perSecond;
                TimeUnit.NANOSECONDS.sleep(due - System.nanoTime());
                String word = "word-" + random.nextInt(VOCABULARY);
                written.merge(word, 1L, Long::sum);
                producer.send(new ProducerRecord<>(topic, word), (where, error) -> {
                    if (error != null) {
                        failure.compareAndSet(null, error);
                    }
                });
            }
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        written.forEach((word, times) -> System.out.println(word + " " + times));
    }

    private static void count(String broker, String from, String to, String folder) throws Exception {
        Properties settings = new Properties();
        settings.put("application.id", "word-count");
        settings.put("bootstrap.servers", broker);
        settings.put("processing.guarantee", "exactly_once_v2");
        settings.put("num.stream.threads", "2");
        settings.put("replication.factor", "1");
        settings.put("auto.offset.reset", "earliest");
        settings.put("state.dir", folder);
        settings.put("default.key.serde", Serdes.StringSerde.class.getName());
        settings.put("default.value.serde", Serdes.StringSerde.class.getName());
        // Each step is to be seen, so nothing may be merged before it goes out.
        settings.put("statestore.cache.max.bytes", "0");
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(from)
            .groupBy((key, word) -> word)
            // In memory, so that whoever takes a partition over reads its counts back from the broker.
            .count(Materialized.as(Stores.inMemoryKeyValueStore("counts")))
            .toStream()
            .mapValues((word, times) -> word + " " + times)
            .to(to);
        CountDownLatch failed = new CountDownLatch(1);
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                failed.countDown();
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.setStateListener((now, before) -> System.err.println("state: " + now));
            streams.start();
            failed.await();
        }
        System.exit(1);
    }
}
