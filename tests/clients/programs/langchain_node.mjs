// LangChain.js: both of OpenAI's APIs, Anthropic's, and embeddings.
import { ChatAnthropic } from "@langchain/anthropic";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { key, model, question, step, url, weather } from "./steps.mjs";

const configuration = { baseURL: `${url}/v1` };
const look = tool(({ city }) => weather(city), { name: "get_weather", description: "The weather", schema: z.object({ city: z.string() }) });
const schema = z.object({ city: z.string(), degrees: z.number().int() });
const chats = {
  ChatOpenAI: new ChatOpenAI({ model, apiKey: key, configuration, maxRetries: 0 }),
  "ChatOpenAI, responses": new ChatOpenAI({ model, apiKey: key, configuration, maxRetries: 0, useResponsesApi: true }),
  ChatAnthropic: new ChatAnthropic({ model, apiKey: key, anthropicApiUrl: url, maxRetries: 0 }),
};

for (const [name, chat] of Object.entries(chats)) {
  await step(`${name} invoke`, "words", async () => (await chat.invoke(question)).text);
  await step(`${name} stream`, "words", async () => {
    let text = "";
    for await (const chunk of await chat.stream(question)) text += chunk.text;
    return text;
  });
  await step(`${name} bindTools`, "mark", async () => {
    const messages = [new HumanMessage(question)];
    const bound = chat.bindTools([look]);
    for (let turn = 0; turn < 3; turn += 1) {
      const answer = await bound.invoke(messages);
      if (!answer.tool_calls?.length) return answer.text;
      messages.push(answer);
      for (const call of answer.tool_calls) messages.push(new ToolMessage({ content: await look.invoke(call.args), tool_call_id: call.id }));
    }
    throw new Error("it went on calling");
  });
  await step(`${name} withStructuredOutput`, "words", async () => chat.withStructuredOutput(schema).invoke(question));
}
await step("OpenAIEmbeddings", "words", async () => (await new OpenAIEmbeddings({ model: process.env.HEADRACE_EMBEDDER, apiKey: key, configuration, maxRetries: 0 }).embedDocuments(["hi", "ho"])).length);
