import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;

/**
 * Orders joined with payments within 2 min, re-keyed by region, counted and summed in 10-s windows;
 * with {@code join} as the job only joined. Arguments: brokers, application id, output topic, state
 * folder, grace in ms, stream threads, prefix of the input topics (none), job (windows), processing
 * guarantee (exactly_once_v2). System properties {@code streams.NAME} are settings over its
 * defaults. Prints {@code first-fetch <epoch ms>} and runs until it is ended.
 */
public final class Reference {
  private static final String TUNING = "streams.";

  private static final Schema ORDER =
      schema(
          """
          {"type":"record","name":"OrderCreated","fields":[
            {"name":"orderId","type":"string"},{"name":"customerId","type":"string"},
            {"name":"region","type":"string"},{"name":"currency","type":"string"},
            {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
              {"name":"sku","type":"string"},{"name":"qty","type":"int"},
              {"name":"priceCents","type":"long"}]}}},
            {"name":"createdAt","type":"long"}]}""");
  private static final Schema PAYMENT =
      schema(
          """
          {"type":"record","name":"PaymentAuthorized","fields":[
            {"name":"paymentId","type":"string"},{"name":"orderId","type":"string"},
            {"name":"amountCents","type":"long"},{"name":"method","type":"string"},
            {"name":"authorizedAt","type":"long"}]}""");
  private static final Schema PAID =
      schema(
          """
          {"type":"record","name":"Paid","fields":[
            {"name":"region","type":"string"},{"name":"amountCents","type":"long"}]}""");
  private static final Schema SUM =
      schema(
          """
          {"type":"record","name":"Sum","fields":[
            {"name":"count","type":"long"},{"name":"sum","type":"long"}]}""");

  private static Schema schema(String json) {
    return new Schema.Parser().parse(json);
  }

  /** Avro behind a frame of five bytes; encoder and decoder are used again, one a thread. */
  private static Serde<GenericRecord> avro(Schema schema) {
    var reader = new GenericDatumReader<GenericRecord>(schema);
    var writer = new GenericDatumWriter<GenericRecord>(schema);
    var decoders = new ThreadLocal<BinaryDecoder>();
    var encoders = new ThreadLocal<BinaryEncoder>();
    return Serdes.serdeFrom(
        (topic, value) -> {
          if (value == null) return null;
          try {
            var out = new ByteArrayOutputStream(128);
            out.write(new byte[] {0, 0, 0, 0, 1});
            var encoder = EncoderFactory.get().directBinaryEncoder(out, encoders.get());
            encoders.set(encoder);
            writer.write(value, encoder);
            encoder.flush();
            return out.toByteArray();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        },
        (topic, bytes) -> {
          if (bytes == null) return null;
          try {
            var decoder =
                DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, decoders.get());
            decoders.set(decoder);
            return reader.read(null, decoder);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        });
  }

  private static GenericRecord paid(GenericRecord order, GenericRecord payment) {
    var paid = new GenericData.Record(PAID);
    paid.put("region", order.get("region"));
    paid.put("amountCents", payment.get("amountCents"));
    return paid;
  }

  private static GenericRecord sum(long count, long total) {
    var sum = new GenericData.Record(SUM);
    sum.put("count", count);
    sum.put("sum", total);
    return sum;
  }

  /** Tells when the first records of the input were fetched. */
  public static final class FirstFetch implements ConsumerInterceptor<byte[], byte[]> {
    private static final AtomicBoolean TOLD = new AtomicBoolean();

    @Override
    public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
      if (!records.isEmpty() && TOLD.compareAndSet(false, true)) {
        System.out.println("first-fetch " + System.currentTimeMillis());
      }
      return records;
    }

    @Override
    public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

    @Override
    public void close() {}

    @Override
    public void configure(Map<String, ?> configs) {}
  }

  public static void main(String[] args) throws InterruptedException {
    String brokers = args[0];
    String application = args[1];
    String output = args[2];
    String prefix = args.length > 6 ? args[6] : "";
    boolean joinOnly = args.length > 7 && args[7].equals("join");
    String guarantee = args.length > 8 ? args[8] : StreamsConfig.EXACTLY_ONCE_V2;
    var config = new Properties();
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
    config.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
    config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[5]);
    config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
    config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    // Its default of 30 s would be most of what is measured.
    if (guarantee.equals(StreamsConfig.AT_LEAST_ONCE)) {
      config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
    }
    System.getProperties().stringPropertyNames().stream()
        .filter(name -> name.startsWith(TUNING))
        .forEach(name -> config.put(name.substring(TUNING.length()), System.getProperty(name)));
    config.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    config.put(
        StreamsConfig.mainConsumerPrefix(ConsumerConfig.INTERCEPTOR_CLASSES_CONFIG),
        FirstFetch.class.getName());
    var builder = new StreamsBuilder();
    var text = Serdes.String();
    var orderSerde = avro(ORDER);
    var paymentSerde = avro(PAYMENT);
    var orders = builder.stream(prefix + "orders", Consumed.with(text, orderSerde));
    var payments = builder.stream(prefix + "payments", Consumed.with(text, paymentSerde));
    var window =
        JoinWindows.ofTimeDifferenceAndGrace(Duration.ofMinutes(2), Duration.ofSeconds(30));
    var grace = Duration.ofMillis(Long.parseLong(args[4]));
    var joined =
        orders.join(
            payments, Reference::paid, window, StreamJoined.with(text, orderSerde, paymentSerde));
    if (joinOnly) {
      joined
          .mapValues(paid -> paid.get("region") + "," + paid.get("amountCents"))
          .to(output, Produced.with(text, text));
    } else {
      windows(joined, grace).to(output, Produced.with(text, text));
    }
    run(new KafkaStreams(builder.build(), config));
  }

  private static KStream<String, String> windows(
      KStream<String, GenericRecord> joined, Duration grace) {
    var text = Serdes.String();
    return joined
        .groupBy((key, paid) -> paid.get("region").toString(), Grouped.with(text, avro(PAID)))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), grace))
        .aggregate(
            () -> sum(0, 0),
            (key, paid, total) ->
                sum(
                    (Long) total.get("count") + 1,
                    (Long) total.get("sum") + (Long) paid.get("amountCents")),
            Materialized
                .<String, GenericRecord, org.apache.kafka.streams.state.WindowStore<Bytes, byte[]>>
                    as("revenue")
                .withKeySerde(text)
                .withValueSerde(avro(SUM)))
        .toStream(
            (key, total) -> key.key() + "@" + key.window().start())
        .mapValues(total -> total.get("count") + "," + total.get("sum"));
  }

  private static void run(KafkaStreams streams) throws InterruptedException {
    var ended = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    // What stops it says so, instead of being waited for.
    streams.setStateListener(
        (now, before) -> {
          if (now == KafkaStreams.State.ERROR) Runtime.getRuntime().halt(1);
        });
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  streams.metrics().values().stream()
                      .filter(metric -> metric.metricName().name().equals("dropped-records-total"))
                      .map(metric -> ((Number) metric.metricValue()).longValue())
                      .reduce(Long::sum)
                      .ifPresent(dropped -> System.out.println("dropped " + dropped));
                  streams.close(Duration.ofSeconds(10));
                  ended.countDown();
                }));
    streams.start();
    ended.await();
  }

  private Reference() {}
}
