import { createHash } from 'node:crypto';

/** A script as it is sent to the server: wrapped so that one call of it carries the calls of many. */
export interface CompiledScript {
  readonly source: string;
  readonly sha: string;
  /** Keys of each call. */
  readonly keys: number;
  readonly replies: 'text' | 'bytes';
  /** How many arguments each call has, where that is fixed; else each call's arguments are preceded by their number. */
  readonly argsPerCall: number | undefined;
}

/** A body that does the loop over calls itself. */
export function compileTogether(
  body: string,
  prelude: string,
  keys: number,
  replies: 'text' | 'bytes',
  argsPerCall: number,
): CompiledScript {
  return compiled(`${prelude}\n${body}`, keys, replies, argsPerCall);
}

/**
 * Wraps a script's body, which sees `KEYS` and `ARGV` of its own call only, in a loop over calls. Where there is one, they are
 * those of Redis; else each call's arguments are preceded by their number. An error fails its own call and no other.
 */
export function compile(
  body: string,
  prelude: string,
  keys: number,
  replies: 'text' | 'bytes',
): CompiledScript {
  const ownKeys = Array.from({ length: keys }, (_, index) => `KEYS[key + ${index}]`).join(', ');
  const source = `${prelude}
local function run(KEYS, ARGV)
${body}
end
local replies, key, argument = {false}, 1, 1
local alone = #KEYS == ${keys}
for call = 1, #KEYS / ${keys} do
  local ok, reply
  if alone then
    ok, reply = pcall(run, KEYS, ARGV)
  else
    local count = tonumber(ARGV[argument])
    ok, reply = pcall(run, {${ownKeys}}, {unpack(ARGV, argument + 1, argument + count)})
    key = key + ${keys}
    argument = argument + count + 1
  end
  if not ok then
    local message = type(reply) == 'table' and reply.err or reply
    reply = {err = string.gsub(tostring(message), '[\\r\\n]', ' ')}
  elseif reply == nil then
    reply = false
  end
  replies[call] = reply
end
return replies
`;
  return compiled(source, keys, replies, undefined);
}

function compiled(
  source: string,
  keys: number,
  replies: 'text' | 'bytes',
  argsPerCall: number | undefined,
): CompiledScript {
  const sha = createHash('sha1').update(source).digest('hex');
  return { source, sha, keys, replies, argsPerCall };
}
