// The words of the page. English stands in page.html too, so that the page can be read before this file has come.

export const WORDS = {
  en: {
    skip: "To the questions", language: "Language", key: "API key", waiting: "Questions that wait for a person",
    answered: "Show answered questions, too", refresh: "Refresh", use: "Use this key",
    keyAbout: "This server asks for a key. It is kept in this tab until you close it.",
    none: "No question waits for a person.", count: "Waiting: {count}", from: "{number}: {customer}, {time}", reason: "Why: {reason}",
    conversation: "Last turns of the customer", answerField: "Answer", intentField: "Intent, if it has one", send: "Send the answer",
    kept: "Kept: {customer} sees the answer with the next reply.",
    private: "Kept for {customer} alone: it tells a number or an address that the customer did not write.",
    given: "Answered: {answer}", unreachable: "The server does not answer. Is it still running?",
  },
  zh: {
    skip: "跳到问题", language: "语言", key: "API 密钥", waiting: "等待人工回答的问题",
    answered: "同时显示已回答的问题", refresh: "刷新", use: "使用此密钥",
    keyAbout: "此服务器需要密钥。密钥只保存在当前标签页，关闭后即删除。",
    none: "没有等待人工回答的问题。", count: "等待中：{count}", from: "{number}：{customer}，{time}", reason: "原因：{reason}",
    conversation: "客户最近的对话", answerField: "回答", intentField: "意图（如有）", send: "发送回答",
    kept: "已保存：{customer} 将在下一次回复中看到此回答。",
    private: "仅为 {customer} 保存：其中的号码或地址不是客户写的。",
    given: "已回答：{answer}", unreachable: "服务器没有响应。它还在运行吗？",
  },
};
