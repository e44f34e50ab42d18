export {
  type ClusterClientOptions,
  type RedisClusterOptions,
  type RedisClusterServers,
  type SlotMigration,
  startRedisCluster,
} from './redis-cluster.ts';
export { type RedisSentinelServers, startRedisSentinel } from './redis-sentinel.ts';
export {
  type RedisClientOptions,
  type RedisServer,
  type RedisServerOptions,
  startRedis,
} from './redis-server.ts';
