import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * How long consumers wait for their group; `PROTOCOL` is `classic` or `consumer`. Both print a line "took MILLISECONDS" a round.
 *
 * <p>`first BROKER TOPIC PROTOCOL ROUNDS`: a new consumer in a new group, from its construction to its first record.
 *
 * <p>`join BROKER TOPIC PROTOCOL ROUNDS MEMBERS PARTITIONS`: one more member joins a settled group, from its construction until
 * each of the MEMBERS has partitions and they have all PARTITIONS together.
 */
public final class GroupLatency {
    private static final long PATIENCE_NANOS = Duration.ofMinutes(3).toNanos();

    private final String broker;
    private final String topic;
    private final String protocol;
    private final int rounds;

    private GroupLatency(String[] arguments) {
        broker = arguments[1];
        topic = arguments[2];
        protocol = arguments[3];
        rounds = Integer.parseInt(arguments[4]);
    }

    public static void main(String[] arguments) throws Exception {
        GroupLatency latency = new GroupLatency(arguments);
        switch (arguments[0]) {
            case "first" -> latency.first();
            case "join" -> latency.join(Integer.parseInt(arguments[5]), Integer.parseInt(arguments[6]));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.exit(0);
    }

    private KafkaConsumer<String, String> consumer(String group) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", broker);
        settings.put("group.id", group);
        settings.put("group.protocol", protocol);
        settings.put("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    private static void took(long begin) {
        System.out.printf(Locale.ROOT, "took %.3f%n", (System.nanoTime() - begin) / 1e6);
    }

    private void first() {
        String run = Long.toString(System.currentTimeMillis());
        int warmUp = 3;
        for (int round = -warmUp; round < rounds; round++) {
            long begin = System.nanoTime();
            try (var consumer = consumer("first-" + run + "-" + round)) {
                consumer.subscribe(List.of(topic));
                while (consumer.poll(Duration.ofMillis(100)).isEmpty()) {
                    if (System.nanoTime() - begin > PATIENCE_NANOS) {
                        throw new IllegalStateException("no record");
                    }
                }
                if (round >= 0) {
                    took(begin);
                }
            }
        }
    }

    private void join(int members, int partitions) throws Exception {
        String group = "join-" + System.currentTimeMillis();
        List<Member> all = new ArrayList<>();
        for (int number = 1; number < members; number++) {
            all.add(new Member(consumer(group)));
        }
        waitUntilSettled(all, partitions);
        for (int round = 0; round < rounds; round++) {
            long begin = System.nanoTime();
            Member last = new Member(consumer(group));
            all.add(last);
            waitUntilSettled(all, partitions);
            took(begin);
            all.remove(last);
            last.leave();
            waitUntilSettled(all, partitions);
        }
    }

    private static void waitUntilSettled(List<Member> members, int partitions) throws Exception {
        long begin = System.nanoTime();
        while (true) {
            int sum = 0;
            boolean allHave = true;
            for (Member member : members) {
                int owned = member.owned;
                if (member.failure != null) {
                    throw member.failure;
                }
                sum += owned;
                allHave &= owned > 0;
            }
            if (allHave && sum == partitions) {
                return;
            }
            if (System.nanoTime() - begin > PATIENCE_NANOS) {
                throw new IllegalStateException("the group doesn't settle: " + sum + " partitions");
            }
            Thread.sleep(1);
        }
    }

    /** A consumer with a thread that polls. */
    private final class Member implements ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;
        private final Thread thread;
        private volatile int owned;
        private volatile RuntimeException failure;

        Member(KafkaConsumer<String, String> consumer) {
            this.consumer = consumer;
            thread = new Thread(this::poll);
            thread.setDaemon(true);
            thread.start();
        }

        private void poll() {
            try (consumer) {
                consumer.subscribe(List.of(topic), this);
                while (true) {
                    consumer.poll(Duration.ofSeconds(1));
                }
            } catch (WakeupException left) {
                // It was told to.
            } catch (RuntimeException error) {
                failure = error;
            }
        }

        void leave() throws InterruptedException {
            consumer.wakeup();
            thread.join();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            owned = consumer.assignment().size();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            owned = consumer.assignment().size() - partitions.size();
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            owned = 0;
        }
    }
}
