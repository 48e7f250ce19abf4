// openai-node: chats, responses, embeddings, and the helpers that run tools and parse answers.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { key, model, parameters, question, step, url, weather } from "./steps.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const schema = z.object({ city: z.string(), degrees: z.number().int() });
const run = { function: ({ city }) => weather(city), parse: JSON.parse, name: "get_weather", description: "The weather", parameters };

await step("models.list", "words", async () => (await client.models.list()).data.map((each) => each.id));
await step("chat", "words", async () => (await client.chat.completions.create({ model, messages })).choices[0].message.content);
await step("chat, streamed", "words", async () => {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
});
await step("chat.runTools", "mark", async () => client.chat.completions.runTools({ model, messages, tools: [{ type: "function", function: run }] }).finalContent());
await step("chat.runTools, streamed", "mark", async () => client.chat.completions.runTools({ model, messages, stream: true, tools: [{ type: "function", function: run }] }).finalContent());
await step("chat.parse", "words", async () => (await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(schema, "weather") })).choices[0].message.parsed);
await step("responses", "words", async () => (await client.responses.create({ model, input: question })).output_text);
await step("responses.stream with a tool", "mark", async () => {
  const input = [{ role: "user", content: question }];
  const tools = [{ type: "function", name: "get_weather", parameters, strict: true }];
  for (let turn = 0; turn < 3; turn += 1) {
    const answer = await client.responses.stream({ model, input, tools }).finalResponse();
    const calls = answer.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) return answer.output_text;
    input.push(...answer.output);
    for (const call of calls) input.push({ type: "function_call_output", call_id: call.call_id, output: weather(JSON.parse(call.arguments).city) });
  }
  throw new Error("it went on calling");
});
await step("responses.parse", "words", async () => (await client.responses.parse({ model, input: question, text: { format: zodTextFormat(schema, "weather") } })).output_parsed);
await step("embeddings", "words", async () => (await client.embeddings.create({ model: process.env.HEADRACE_EMBEDDER, input: ["hi", "ho"] })).data.length);
