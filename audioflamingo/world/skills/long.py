"""Questions about scenes of 30 s to 10 min (LongAudio-XL): needle, order, time, summary, topics, causes, responses."""

from __future__ import annotations

from audioflamingo.world.cast import Voice
from audioflamingo.world.said import CAUSES, TOPICS, Statement, causal, exchange, statement
from audioflamingo.world.skills.base import (
    EVENT_KINDS,
    Job,
    Made,
    Truth,
    Turn,
    ask,
    label,
    seconds,
    sentence,
)
from audioflamingo.world.skills.speech import fact_turn, filled, twin
from audioflamingo.world.timeline import Heard, Stage, draw_duration_s

WHEN = (
    "When is {a} heard?",
    "At what time does {a} occur?",
    "From when to when is {a} heard?",
    "At what time do you hear {a}?",
    "Between which times is there {a}?",
    "In which seconds does {a} occur?",
    "Locate {a} in the recording.",
    "Give the time of {a}.",
    "Tell me when {a} starts and ends.",
    "Name the time at which {a} is heard.",
    "Please say when {a} happens.",
    "Time of {a}?",
    "Locate {a} in time.",
)
AT_TIME = (
    "Which sound is heard at {t}?",
    "What happens at {t}?",
    "What sound occurs at {t}?",
    "What do you hear at {t}?",
    "Which sound is there at {t}?",
    "What is to be heard at {t}?",
    "Name the sound at {t}.",
    "Tell me what is heard at {t}.",
    "Identify the sound that you hear at {t}.",
    "Please say which sound occurs at {t}.",
    "At {t}, which sound is it?",
    "Sound at {t}?",
    "Name the sound that occurs at {t}.",
)
SUMMARY = (
    "Summarise the recording.",
    "What is this recording about? Summarise it.",
    "Who talks about what? Summarise.",
    "What is the short version of this recording?",
    "Give a summary of the whole recording.",
    "Give a short summary.",
    "Give an account of who talks about what.",
    "Sum up the recording.",
    "Tell me in short what goes on, from beginning to end.",
    "Please summarise all of it.",
    "Summary of the recording?",
    "Say in short who talks about which topics.",
    "Give a short account of the whole recording.",
)
SAME_TOPIC = (
    "Do both people talk about the same topic?",
    "Is the topic of the two speakers the same?",
    "Do the two speakers share a topic?",
    "Do both speakers talk about one subject?",
    "Is it one and the same subject for both?",
    "Are the two people on the same topic?",
    "Tell me whether the two talk about the same subject.",
    "Say whether both speakers have the same topic.",
    "Please check if the speakers share the same subject.",
    "Same topic for both?",
    "Does the second speaker keep to the topic of the first?",
    "Do the speakers share one subject?",
)
ORDER = (
    "In which order are the topics talked about?",
    "What is the order of the topics?",
    "Which subjects come up, and in which order?",
    "Which topic comes first, which second and which third?",
    "In what order do the subjects come up?",
    "Arrange the topics in their order.",
    "List the topics as they are talked about.",
    "Tell me the order of the subjects.",
    "Name the topics from the first to the last.",
    "Give the topics in order.",
    "Please list the subjects one after the other.",
    "Order of the topics?",
    "Arrange the subjects as they come up.",
)
WHY = (
    "Why was it that {effect}?",
    "What is the reason that {effect}?",
    "Why is it said that {effect}?",
    "What is the cause of this: {effect}?",
    "How did it come about that {effect}?",
    "What led to this: {effect}?",
    "Give the reason: why was it that {effect}?",
    "Tell me why {effect}.",
    "Explain why {effect}.",
    "Name the cause of this: {effect}.",
    "Please say for what reason {effect}.",
    "What explains that {effect}?",
    "Give the cause: {effect}.",
)
RESPONSE = (
    "What is the answer about {about}?",
    "How is the question about {about} answered?",
    "What is the reply to the question about {about}?",
    "What does the other person answer about {about}?",
    "What do they reply when asked about {about}?",
    "What is said in reply about {about}?",
    "Report the answer about {about}.",
    "Report what is answered about {about}.",
    "Tell me the reply about {about}.",
    "Give the answer to the question about {about}.",
    "Please say how they answer about {about}.",
    "Reply about {about}?",
    "Report the reply about {about}.",
)
SHORTEST_S = 30.0
LEAST_GAP_S, MOST_GAP_S = 0.4, 5.0


def length_s(job: Job) -> float:
    """How long a long scene is to be."""
    shortest_s = min(job.world.shortest_s, job.world.longest_s - 20.0)
    return draw_duration_s(job.plan, shortest_s, job.world.longest_s - 15.0)


def talk(job: Job, stage: Stage, cast: tuple[Voice, ...], until_s: float) -> None:
    """Everyday sentences, sounds and pauses up to a time: hay."""
    rng = job.dice.plain
    while stage.clock_s < until_s:
        if rng.random() < 0.7:
            stage.say(job.world.sentences.sentence(rng), rng.choice(cast))
        else:
            stage.sound(rng.choice(EVENT_KINDS))
        stage.pause(rng.uniform(LEAST_GAP_S, MOST_GAP_S))


def needle(job: Job) -> Made:
    """One statement hidden in a long talk."""
    total_s, place = length_s(job), job.plan.uniform(0.1, 0.9)
    asked, slot, other = twin(job)
    cast = job.cast(None, None)
    stage = job.stage()
    talk(job, stage, cast, total_s * place)
    stage.say(asked, cast[0])
    stage.pause()
    talk(job, stage, cast, total_s - 5.0)
    return Made((stage.close(duration_s=SHORTEST_S),), ((fact_turn(job, asked, slot, value=other),),))


def long_order(job: Job) -> Made:
    """The order of three topics, with sounds between; the counterfactual reverses it."""
    total_s = length_s(job)
    topics = job.plan.sample(TOPICS, 3)
    order = topics[::-1] if job.flip else topics
    (voice,) = job.cast(None)
    stage = job.stage()
    for index, topic in enumerate(order):
        for _ in range(2):
            stage.say(statement(job.dice.plain, test=job.test, topic=topic), voice)
            stage.pause()
        filled(job, stage, total_s * (index + 1) / 3 - 2.0)
    options = [", then ".join(one) for one in (topics, topics[::-1], [topics[1], topics[0], topics[2]])]
    truth = Truth("topics", {}, order)
    turn = ask(job, job.phrasing.of(ORDER), ", then ".join(order), truth, pool=options, keep=options)
    return Made((stage.close(duration_s=SHORTEST_S),), ((turn,),))


def grounding(job: Job) -> Made:
    """When a sound is heard, and what is heard at a time; the counterfactual plays the sounds in another order."""
    total_s = length_s(job)
    names = job.plan.sample(EVENT_KINDS, 4)
    target = names[0]
    (voice,) = job.cast(None)
    stage = job.stage()
    placed: list[Heard] = []
    for index, name in enumerate(names[::-1] if job.flip else names):
        stage.say(job.world.sentences.sentence(job.dice.plain), voice)
        stage.pause(job.dice.plain.uniform(1.0, 3.0))
        stage.clock_s = max(stage.clock_s, total_s * (index + 0.5) / 4)
        placed.append(stage.sound(name))
        stage.pause(1.0)
    timeline = stage.close(duration_s=SHORTEST_S)
    event = next(one for one in placed if one.kind == target)
    when = when_turn(job, event)
    at_s = (event.start_s + event.end_s) / 2
    question = job.phrasing.of(AT_TIME, t=seconds(at_s))
    pool = [label(name) for name in names]
    at = ask(job, question, label(target), Truth("at", {"time_s": round(at_s, 1)}, target), pool=pool, keep=pool)
    return Made((timeline,), ((when,), (at,)))


def when_turn(job: Job, event: Heard) -> Turn:
    """From when to when the only sound of its kind is heard."""
    value = [round(event.start_s, 1), round(event.end_s, 1)]
    told = f"From {seconds(event.start_s)} to {seconds(event.end_s)}."
    return Turn(job.phrasing.of(WHEN, a=label(event.kind)), told, "when", {"kind": event.kind}, value)


def summary(job: Job) -> Made:
    """Who talks about what, and which sounds are heard, in order."""
    total_s = length_s(job)
    num = 3 if total_s < 90 else 5
    topics = job.plan.sample(TOPICS, num)
    cast = job.cast("female", "male")
    parts: list[dict[str, str]] = []
    stage = job.stage()
    for index, topic in enumerate(topics):
        voice = cast[job.dice.plain.randrange(2)]
        for _ in range(2):
            stage.say(statement(job.dice.plain, test=job.test, topic=topic), voice)
            stage.pause()
        parts.append({"sex": voice.sex, "topic": topic})
        if job.dice.plain.random() < 0.5:
            parts.append({"kind": stage.sound(job.dice.plain.choice(EVENT_KINDS)).kind})
        stage.clock_s = max(stage.clock_s, total_s * (index + 1) / num)
    told = sentence(", then ".join(_part_told(part) for part in parts))
    turn = Turn(job.phrasing.of(SUMMARY), told, "summary", {}, parts)
    return Made((stage.close(duration_s=SHORTEST_S),), ((turn,),))


def _part_told(part: dict[str, str]) -> str:
    if "kind" in part:
        return f"there is {label(part['kind'])}"
    return f"a {'woman' if part['sex'] == 'female' else 'man'} talks about {part['topic']}"


def topic_relation(job: Job) -> Made:
    """Whether two people talk about the same topic, or how the topic of one changes."""
    total_s = length_s(job)
    a, b = job.plan.sample(TOPICS, 2)
    same = job.coin() != job.flip
    second = a if same else b
    cast = job.cast(None, None)
    stage = job.stage()
    for topic, voice in zip((a, second), cast, strict=True):
        for _ in range(2):
            stage.say(statement(job.dice.plain, test=job.test, topic=topic), voice)
            stage.pause()
        stage.clock_s = max(stage.clock_s, total_s / 2)
    told = f"Yes, both talk about {a}." if same else f"No, the first talks about {a}, the second about {b}."
    turn = Turn(job.phrasing.of(SAME_TOPIC), told, "same_topic", {}, same)
    return Made((stage.close(duration_s=SHORTEST_S),), ((turn,),))


def causal_qa(job: Job) -> Made:
    """Why something happened, said once in a long talk; the counterfactual gives another reason."""
    total_s = length_s(job)
    one = causal(job.plan, test=job.test)
    other = _other_cause(job, one)
    asked = other if job.flip else one
    cast = job.cast(None, None)
    stage = job.stage()
    talk(job, stage, cast, total_s * job.plan.uniform(0.1, 0.8))
    stage.say(asked, cast[0])
    stage.pause()
    talk(job, stage, cast, total_s - 5.0)
    options = [f"because {cause}" for _, causes in CAUSES for cause in causes]
    keep = [f"because {said.facts['cause']}" for said in (one, other)]
    truth = Truth("cause", {"effect": one.facts["effect"]}, asked.facts["cause"])
    question = job.phrasing.of(WHY, effect=one.facts["effect"])
    turn = ask(job, question, f"because {asked.facts['cause']}", truth, pool=options, keep=keep)
    return Made((stage.close(duration_s=SHORTEST_S),), ((turn,),))


def _other_cause(job: Job, one: Statement) -> Statement:
    """Draws until the reason differs for the same effect."""
    while True:
        other = causal(job.plan, test=job.test)
        if other.facts["effect"] == one.facts["effect"] and other.facts["cause"] != one.facts["cause"]:
            return other


def response_qa(job: Job) -> Made:
    """What one voice answers to the question of another."""
    total_s = length_s(job)
    first, second = two_responses(job)
    asking, answering = second if job.flip else first
    cast = job.cast("female", "male")
    stage = job.stage()
    talk(job, stage, cast, total_s * job.plan.uniform(0.1, 0.8))
    stage.say(asking, cast[0])
    stage.pause(0.4)
    stage.say(answering, cast[1])
    stage.pause()
    talk(job, stage, cast, total_s - 5.0)
    facts = answering.facts
    word = facts["slots"][facts["slot"]]
    truth = Truth("response", {"about": facts["about"]}, word)
    turn = ask(job, job.phrasing.of(RESPONSE, about=facts["about"]), word, truth, told=answering.text)
    return Made((stage.close(duration_s=SHORTEST_S),), ((turn,),))


def two_responses(job: Job) -> tuple[tuple[Statement, Statement], tuple[Statement, Statement]]:
    """Two exchanges about the same matter with different answers."""
    first = exchange(job.plan, test=job.test)
    while True:
        second = exchange(job.plan, test=job.test)
        mine, other = first[1].facts, second[1].facts
        if mine["about"] == other["about"] and mine["slots"][mine["slot"]] != other["slots"][other["slot"]]:
            return first, second
