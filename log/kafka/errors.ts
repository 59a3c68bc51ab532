/** The Kafka driver's rows of the error catalogue; those that both drivers raise are in `log/`. */
import { type ErrorRow, errorsOf } from '../errors.ts'

export const kafkaCatalogue = {
  KAFKA_UNREACHABLE: {
    message: 'Broker {broker} gave no answer to {request}: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_UNSUPPORTED: {
    message:
      'The Kafka cluster at {broker} lacks {missing}. Millrace needs Apache Kafka 4.2 or newer with the features transaction.version 2 and streams.version 1 (kafka-features.sh upgrade).',
    recovery: 'stop',
    status: 503,
  },
  KAFKA_AUTHENTICATION: {
    message:
      'Broker {broker} did not accept the connection: {reason}. Check the TLS and SASL settings.',
    recovery: 'stop',
    status: 503,
  },
  KAFKA_RESPONSE: {
    message: 'The answer of broker {broker} to {request} cannot be read: {reason}.',
    recovery: 'stop',
    status: 502,
  },
  KAFKA_REFUSED: {
    message: 'Kafka refused {request}: {error}{detail}.',
    recovery: 'stop',
    status: 502,
  },
} as const satisfies Record<string, ErrorRow>

export const kafkaError = errorsOf(kafkaCatalogue)
