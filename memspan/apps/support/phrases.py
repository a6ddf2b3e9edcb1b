"""What is said to customers beside templates, past answers and quotes, in English and Chinese."""

import re

from memspan.data.scripts import HAN

_HAN = re.compile(f"[{HAN}]")
_LETTER = re.compile(r"[^\W\d_]")
ENGLISH, CHINESE = "en", "zh"

PHRASES = {
    ENGLISH: {
        "handed over": "I have passed your message on to a colleague, who will answer you here (number {ticket}).",
        "still open": "A colleague has your question already (number {ticket}), and this message with it.",
        "missing": "To answer this I need {missing}. Please send it to me.",
        "answered": "A colleague has answered your question (number {ticket}): {answer}",
        "number": "your order or customer number",
        "email": "your e-mail address",
        "phone": "your telephone number",
        "amount": "the amount",
        "date": "the date",
        "and": " and ",
    },
    CHINESE: {
        "handed over": "您的问题已转给人工客服，稍后会在这里回复您（编号 {ticket}）。",
        "still open": "您的问题（编号 {ticket}）人工客服正在处理，这条消息也已一并转达。",
        "missing": "为了答复您，请告诉我{missing}。",
        "answered": "人工客服已回复您的问题（编号 {ticket}）：{answer}",
        "number": "您的订单号或客户编号",
        "email": "您的邮箱地址",
        "phone": "您的电话号码",
        "amount": "金额",
        "date": "日期",
        "and": "和",
    },
}


def language(text: str) -> str:
    """Chinese if at least a third of the letters of a text are Chinese characters, else English."""
    letters = len(_LETTER.findall(text))
    return CHINESE if letters and len(_HAN.findall(text)) * 3 >= letters else ENGLISH


def phrase(name: str, language: str, **values: object) -> str:
    """A phrase in a language, with its values."""
    return PHRASES[language][name].format(**values)


def wanted(kinds: list[str], language: str) -> str:
    """The request for entities that a reply needs."""
    names = PHRASES[language]["and"].join(PHRASES[language][kind] for kind in kinds)
    return phrase("missing", language, missing=names)
