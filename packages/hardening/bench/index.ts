import { benchInput } from './input.ts';
import { benchOutput } from './output.ts';
import { benchResponses } from './responses.ts';

await benchResponses();
await benchInput();
await benchOutput();
