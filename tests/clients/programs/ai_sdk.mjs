// Vercel's AI SDK with the three providers that reach an address of one's own.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { key, model, question, step, url, weather } from "./steps.mjs";

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const compatible = createOpenAICompatible({ name: "headrace", baseURL: `${url}/v1`, apiKey: key });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const tools = {
  get_weather: tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => weather(city),
  }),
};
const schema = z.object({ city: z.string(), degrees: z.number().int() });
const models = {
  openai: openai(model),
  "openai.chat": openai.chat(model),
  "openai-compatible": compatible(model),
  anthropic: anthropic(model),
};

for (const [name, asked] of Object.entries(models)) {
  await step(`${name} generateText`, "words", async () => (await generateText({ model: asked, prompt: "Say hi." })).text);
  await step(`${name} streamText with a tool`, "mark", async () => {
    let failed;
    const stream = streamText({ model: asked, tools, stopWhen: stepCountIs(3), prompt: question, onError: ({ error }) => { failed = error; } });
    const text = await stream.text.catch((error) => { failed ??= error; });
    if (failed) throw failed;
    return text;
  });
  await step(`${name} generateObject`, "words", async () => (await generateObject({ model: asked, schema, prompt: question })).object);
}
await step("openai embed", "words", async () => (await embed({ model: openai.embedding(process.env.HEADRACE_EMBEDDER), value: "hi" })).embedding.length);
