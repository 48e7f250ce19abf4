// Anthropic's SDK for JavaScript.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { key, model, parameters, question, step, url, weather } from "./steps.mjs";

const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const asked = { model, max_tokens: 200, messages: [{ role: "user", content: question }] };
const schema = z.object({ city: z.string(), degrees: z.number().int() });
const texts = (message) => message.content.map((block) => block.text ?? "").join("");
const tools = () => [betaTool({ name: "get_weather", description: "The weather", inputSchema: parameters, run: ({ city }) => weather(city) })];

await step("models.list", "words", async () => (await client.models.list()).data.map((each) => each.id));
await step("messages", "words", async () => texts(await client.messages.create(asked)));
await step("messages.stream", "words", async () => client.messages.stream(asked).finalText());
await step("messages.countTokens", "words", async () => (await client.messages.countTokens({ model, messages: asked.messages })).input_tokens);
await step("messages.parse", "words", async () => (await client.messages.parse({ ...asked, output_config: { format: zodOutputFormat(schema) } })).parsed_output);
await step("beta toolRunner", "mark", async () => texts(await client.beta.messages.toolRunner({ ...asked, tools: tools() })));
await step("beta toolRunner, streamed", "mark", async () => {
  let last;
  for await (const stream of client.beta.messages.toolRunner({ ...asked, tools: tools(), stream: true })) last = await stream.finalMessage();
  return texts(last);
});
