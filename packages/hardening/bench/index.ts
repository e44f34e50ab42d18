import { benchInput } from './input.ts';
import { benchResponses } from './responses.ts';

await benchResponses();
await benchInput();
