import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.apache.kafka.common.message.StreamsGroupDescribeResponseData;
import org.apache.kafka.common.message.StreamsGroupHeartbeatRequestData;
import org.apache.kafka.common.message.StreamsGroupHeartbeatResponseData;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/** Writes messages of streams groups, version 0, with Kafka's own code: README.md. */
public class GoldenGroup {
    public static void main(String[] args) throws IOException {
        Path folder = Path.of(args[0]);
        Files.write(folder.resolve("streams-group-join.bin"), bytes(join()));
        Files.write(folder.resolve("streams-group-heartbeat.bin"), bytes(heartbeat()));
        Files.write(folder.resolve("streams-group-reply.bin"), bytes(reply()));
        Files.write(folder.resolve("streams-group-description.bin"), bytes(description()));
    }

    static byte[] bytes(Message message) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, (short) 0));
        message.write(new ByteBufferAccessor(buffer), cache, (short) 0);
        return buffer.array();
    }

    static StreamsGroupHeartbeatRequestData.TopicInfo topic(String name, int partitions) {
        return new StreamsGroupHeartbeatRequestData.TopicInfo().setName(name)
            .setPartitions(partitions).setTopicConfigs(List.of(
                new StreamsGroupHeartbeatRequestData.KeyValue().setKey("cleanup.policy").setValue("compact"),
                new StreamsGroupHeartbeatRequestData.KeyValue().setKey("retention.ms").setValue("-1")));
    }

    static StreamsGroupHeartbeatRequestData join() {
        return new StreamsGroupHeartbeatRequestData()
            .setGroupId("app").setMemberId("member-ü").setMemberEpoch(0)
            .setEndpointInformationEpoch(0).setRackId("rack").setRebalanceTimeoutMs(60000)
            .setTopology(new StreamsGroupHeartbeatRequestData.Topology().setEpoch(0)
                .setSubtopologies(List.of(
                    new StreamsGroupHeartbeatRequestData.Subtopology().setSubtopologyId("a")
                        .setSourceTopics(List.of("orders", "payments"))
                        .setStateChangelogTopics(List.of(topic("app-s-changelog", 0)))
                        .setRepartitionSinkTopics(List.of("app-r-repartition"))
                        .setCopartitionGroups(List.of(
                            new StreamsGroupHeartbeatRequestData.CopartitionGroup()
                                .setSourceTopics(List.of((short) 0, (short) 1)))),
                    new StreamsGroupHeartbeatRequestData.Subtopology().setSubtopologyId("b")
                        .setRepartitionSourceTopics(List.of(topic("app-r-repartition", 6))))))
            .setActiveTasks(List.of()).setStandbyTasks(List.of()).setWarmupTasks(List.of())
            .setProcessId("process")
            .setUserEndpoint(new StreamsGroupHeartbeatRequestData.Endpoint()
                .setHost("one.example").setPort(65535))
            .setClientTags(List.of(
                new StreamsGroupHeartbeatRequestData.KeyValue().setKey("zone").setValue("z1")));
    }

    static StreamsGroupHeartbeatRequestData heartbeat() {
        return new StreamsGroupHeartbeatRequestData()
            .setGroupId("app").setMemberId("member-ü").setMemberEpoch(300)
            .setEndpointInformationEpoch(7)
            .setActiveTasks(List.of(
                new StreamsGroupHeartbeatRequestData.TaskIds().setSubtopologyId("a")
                    .setPartitions(List.of(0, 1, 200)),
                new StreamsGroupHeartbeatRequestData.TaskIds().setSubtopologyId("b")
                    .setPartitions(List.of(3))))
            .setStandbyTasks(List.of(
                new StreamsGroupHeartbeatRequestData.TaskIds().setSubtopologyId("a")
                    .setPartitions(List.of(2))))
            .setWarmupTasks(List.of()).setShutdownApplication(true);
    }

    static StreamsGroupHeartbeatResponseData.TaskIds tasks(String id, Integer... partitions) {
        return new StreamsGroupHeartbeatResponseData.TaskIds().setSubtopologyId(id)
            .setPartitions(List.of(partitions));
    }

    static StreamsGroupHeartbeatResponseData.TopicPartition partitions(String topic, Integer... of) {
        return new StreamsGroupHeartbeatResponseData.TopicPartition().setTopic(topic)
            .setPartitions(List.of(of));
    }

    static StreamsGroupHeartbeatResponseData reply() {
        return new StreamsGroupHeartbeatResponseData()
            .setThrottleTimeMs(1).setErrorCode((short) 0).setErrorMessage("a message")
            .setMemberId("member-ü").setMemberEpoch(301).setHeartbeatIntervalMs(5000)
            .setAcceptableRecoveryLag(10000).setTaskOffsetIntervalMs(60000)
            .setStatus(List.of(
                new StreamsGroupHeartbeatResponseData.Status().setStatusCode((byte) 1)
                    .setStatusDetail("Source topics x are missing."),
                new StreamsGroupHeartbeatResponseData.Status().setStatusCode((byte) 5)
                    .setStatusDetail("delayed")))
            .setActiveTasks(List.of(tasks("b", 1, 0), tasks("a", 2), tasks("c")))
            .setStandbyTasks(List.of(tasks("b", 3))).setWarmupTasks(List.of())
            .setEndpointInformationEpoch(8)
            .setPartitionsByUserEndpoint(List.of(
                new StreamsGroupHeartbeatResponseData.EndpointToPartitions()
                    .setUserEndpoint(new StreamsGroupHeartbeatResponseData.Endpoint()
                        .setHost("one.example").setPort(65535))
                    .setActivePartitions(List.of(partitions("orders", 2), partitions("payments", 2)))
                    .setStandbyPartitions(List.of(partitions("app-r-repartition", 3)))));
    }

    static StreamsGroupDescribeResponseData description() {
        StreamsGroupDescribeResponseData.Assignment assignment =
            new StreamsGroupDescribeResponseData.Assignment().setActiveTasks(List.of(
                new StreamsGroupDescribeResponseData.TaskIds().setSubtopologyId("a")
                    .setPartitions(List.of(0, 1))));
        return new StreamsGroupDescribeResponseData().setGroups(List.of(
            new StreamsGroupDescribeResponseData.DescribedGroup().setErrorCode((short) 69)
                .setErrorMessage("no such group").setGroupId("other").setGroupState("Dead"),
            new StreamsGroupDescribeResponseData.DescribedGroup().setGroupId("app")
                .setGroupState("Stable").setGroupEpoch(5).setAssignmentEpoch(4)
                .setTopology(new StreamsGroupDescribeResponseData.Topology().setEpoch(0)
                    .setSubtopologies(List.of(
                        new StreamsGroupDescribeResponseData.Subtopology().setSubtopologyId("a")
                            .setSourceTopics(List.of("orders"))
                            .setRepartitionSinkTopics(List.of("app-r-repartition"))
                            .setStateChangelogTopics(List.of(
                                new StreamsGroupDescribeResponseData.TopicInfo()
                                    .setName("app-s-changelog").setPartitions(4)
                                    .setTopicConfigs(List.of(
                                        new StreamsGroupDescribeResponseData.KeyValue()
                                            .setKey("cleanup.policy").setValue("compact"))))))))
                .setMembers(List.of(
                    new StreamsGroupDescribeResponseData.Member().setMemberId("m")
                        .setMemberEpoch(4).setInstanceId(null).setRackId("rack")
                        .setClientId("client").setClientHost("/127.0.0.1").setTopologyEpoch(0)
                        .setProcessId("process")
                        .setUserEndpoint(new StreamsGroupDescribeResponseData.Endpoint()
                            .setHost("one.example").setPort(8080))
                        .setClientTags(List.of(new StreamsGroupDescribeResponseData.KeyValue()
                            .setKey("zone").setValue("z1")))
                        .setTaskOffsets(List.of(new StreamsGroupDescribeResponseData.TaskOffset()
                            .setSubtopologyId("a").setPartition(0).setOffset(1L << 40)))
                        .setAssignment(assignment).setTargetAssignment(assignment)))));
    }
}
