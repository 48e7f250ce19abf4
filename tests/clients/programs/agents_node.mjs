// OpenAI's Agents SDK for JavaScript, over both of OpenAI's APIs.
import { Agent, run, setDefaultOpenAIClient, setOpenAIAPI, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import { key, model, question, step, url, weather } from "./steps.mjs";

setDefaultOpenAIClient(new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 }));
setTracingDisabled(true);
const look = tool({ name: "get_weather", description: "The weather", parameters: z.object({ city: z.string() }), execute: async ({ city }) => weather(city) });
const schema = z.object({ city: z.string(), degrees: z.number().int() });

for (const api of ["responses", "chat_completions"]) {
  setOpenAIAPI(api);
  const agent = new Agent({ name: "A", instructions: "Be short.", model, tools: [look] });
  await step(`${api} run`, "mark", async () => (await run(agent, question)).finalOutput);
  await step(`${api} run, streamed`, "mark", async () => {
    const answer = await run(agent, question, { stream: true });
    for await (const event of answer) void event;
    return answer.finalOutput;
  });
  await step(`${api} outputType`, "words", async () => (await run(new Agent({ name: "B", model, outputType: schema }), question)).finalOutput);
}
