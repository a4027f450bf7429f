import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * `BROKER TOPIC COUNT PAUSE_MS`: transactions of one record, one after another with a pause between them; prints how many
 * milliseconds each took from its begin until its commit was acknowledged.
 */
public final class TransactionLatency {
    private TransactionLatency() {}

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("transactional.id", "one-record");
        String topic = arguments[1];
        int count = Integer.parseInt(arguments[2]);
        int warmUp = count / 5;
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            for (int number = -warmUp; number < count; number++) {
                long begin = System.nanoTime();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "a record"));
                producer.commitTransaction();
                double took = (System.nanoTime() - begin) / 1e6;
                if (number >= 0) {
                    System.out.printf(Locale.ROOT, "took %.3f%n", took);
                }
                // The markers of the last transaction must not hold up the next one.
                Thread.sleep(Long.parseLong(arguments[3]));
            }
        }
    }
}
