"""Kinds of statements, and the questions that each of their words answers.

Of the phrasings of a question the last is held out: training never asks it, though its words occur in the others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """A kind of statement.

    Attributes:
        topic: what it is about.
        text: with slots of `said.WORDS`.
        asks: question for the word in a slot, phrasings the last of which is held out; other slots may be filled in.
    """

    topic: str
    text: str
    asks: dict[str, tuple[str, ...]]


PATTERNS: tuple[Pattern, ...] = (
    Pattern("travel", "{who} takes the train to {city} on {day}.", {
        "city": (
            "Where does {who} go by train?", "To which city does {who} travel?", "Where does the train take {who}?",
            "What is the destination that {who} takes the train to?", "Name the city to which {who} goes.",
            "Tell me where {who} is going.", "Say to which city the train of {who} goes.", "Destination of {who}?",
            "What is the destination of {who}?"),
        "day": (
            "On which day does {who} take the train?", "On what day does {who} travel?",
            "Which day of the week is the train journey of {who}?", "When does {who} go by train?",
            "When will {who} take the train?", "Name the day on which {who} travels by train.",
            "Tell me when {who} takes the train.", "Day of the train journey of {who}?",
            "When does {who} travel by train?")}),
    Pattern("travel", "The flight to {city} leaves at {time} on {day}.", {
        "time": (
            "At what time does the flight to {city} leave?", "At which hour does the flight to {city} start?",
            "What is the time of departure to {city}?", "When, at what hour, does one fly to {city}?",
            "Name the hour of the flight to {city}.", "Tell me the departure time of the flight to {city}.",
            "Say at what time the plane to {city} leaves.", "Departure time of the {city} flight?",
            "What is the departure of the flight to {city}?"),
        "city": (
            "Where does the flight go?", "To which city does the flight go?", "Which city does one fly to?",
            "What is the destination of the plane?", "Name the city that the flight goes to.",
            "Tell me where the flight is going.", "Say to which city the plane flies.", "Destination of the flight?",
            "What is the destination of the flight?")}),
    Pattern("cooking", "For dinner {who} will cook {food} for {number} guests.", {
        "food": (
            "What will {who} cook?", "What is {who} going to cook?", "Which dish will {who} make for dinner?",
            "What does {who} prepare for the guests?", "Name the dish that {who} cooks.",
            "Tell me what {who} makes for dinner.", "What food do the guests of {who} get?", "Dinner that {who} cooks?",
            "Which dish does {who} prepare?"),
        "number": (
            "How many guests does {who} cook for?", "How many guests will {who} have?",
            "For how many guests will {who} cook?", "How many people is {who} cooking dinner for?",
            "What is the number of guests of {who}?", "Count the guests that {who} cooks for.",
            "Tell me how many people eat with {who} as guests.", "Number of guests of {who}?",
            "For how many people is {who} cooking?")}),
    Pattern("cooking", "{who} burned the {food} in the oven again.", {
        "food": (
            "What did {who} burn?", "Which food did {who} burn?", "What was burned by {who}?",
            "What did {who} leave too long in the oven?", "Which dish was burned in the oven of {who}?",
            "Name the food that {who} burned.", "Tell me what {who} burned in the oven.", "Food burned by {who}?",
            "Which food was burned by {who}?")}),
    Pattern("work", "The meeting with {who} is at {time} on {day}.", {
        "who": (
            "Who is the meeting with?", "Which person is the meeting with?", "Whom does one meet?",
            "With which person is the meeting?", "With whom will they meet?", "Name the person of the meeting.",
            "Tell me who the meeting is with.", "Person at the meeting?",
            "With whom is the meeting?"),
        "time": (
            "At what time is the meeting with {who}?", "At which hour is the meeting with {who}?",
            "When, at what hour, does one meet {who}?", "At what hour does the meeting with {who} begin?",
            "What is the time of the meeting with {who}?", "Name the hour when the meeting with {who} starts.",
            "Tell me at what time the meeting with {who} starts.", "Time of the meeting with {who}?",
            "When does the meeting with {who} begin?"),
        "day": (
            "On which day is the meeting with {who}?", "What day is the meeting with {who}?",
            "On which weekday does one meet {who}?", "On what day of the week is the meeting with {who}?",
            "Name the weekday of the meeting with {who}.", "Tell me on which day the meeting with {who} is.",
            "Say on what weekday they meet {who}.", "Day of the meeting with {who}?",
            "Which weekday is the meeting with {who}?")}),
    Pattern("work", "{who} has to write {number} reports before {day}.", {
        "number": (
            "How many reports must {who} write?", "How many reports does {who} have to write?",
            "What is the number of reports that {who} must write?", "How many reports are asked of {who}?",
            "What number of reports is {who} to write?", "Count the reports that {who} has to write.",
            "Tell me how many reports {who} must write.", "Number of reports for {who}?",
            "What number of reports does {who} have to write?"),
        "day": (
            "Before which day must {who} write the reports?", "Before which day are the reports of {who} due?",
            "What is the deadline for the reports of {who}?", "What deadline does {who} have?",
            "By which day does {who} have to finish the reports?", "Name the day before which {who} must write.",
            "Tell me the deadline for {who}.", "Deadline of the reports by {who}?",
            "What is the deadline of {who}?")}),
    Pattern("weather", "On {day} we expect {sky} in {city}.", {
        "sky": (
            "What weather is expected in {city}?", "What will the weather be in {city}?",
            "What kind of weather will {city} have?", "What does the forecast say for {city}?",
            "Name the weather that {city} will get.", "Tell me the forecast of the weather in {city}.",
            "What do they expect in the sky of {city}?", "Weather in {city}?",
            "What is the forecast for {city}?"),
        "city": (
            "For which city is the weather told?", "For which city is the forecast?", "Where is this weather expected?",
            "What city do they mention in the forecast?", "In which city will the weather be like this?",
            "Name the city of the weather forecast.", "Tell me which city the forecast is about.",
            "City of the forecast?",
            "Which city does the forecast mention?")}),
    Pattern("sport", "{who} plays {sport} every {day}.", {
        "sport": (
            "What does {who} play?", "What sport does {who} play?", "Which sport is played by {who}?",
            "What kind of sport does {who} do?", "Name the sport that {who} plays.", "Tell me which sport {who} does.",
            "Which game does {who} play every week?", "Sport of {who}?",
            "Which sport does {who} do?"),
        "day": (
            "On which day does {who} play?", "What day does {who} play on?",
            "On which day of the week does {who} do sport?", "When does {who} play?",
            "When in the week is {who} busy with sport?", "Name the day on which {who} plays.",
            "Tell me on what day {who} does sport.", "Day on which {who} plays?",
            "When does {who} do sport?")}),
    Pattern("sport", "The {colour} team won the {sport} match by {number} points.", {
        "colour": (
            "Which team won the {sport} match?", "What colour has the team that won the {sport} match?",
            "Of which colour was the team that won at {sport}?", "Which colour won the match of {sport}?",
            "What is the colour of the winner of the {sport} match?", "Name the team that won at {sport}.",
            "Tell me which team won the {sport}.", "Winner of the {sport} match?",
            "What is the colour of the team that won at {sport}?"),
        "number": (
            "By how many points was the {sport} match won?", "By how many points did the team win at {sport}?",
            "What was the difference in points in the {sport} match?", "How many points decided the match of {sport}?",
            "How large was the margin at {sport}?", "Count the points by which the {sport} match was won.",
            "Tell me the margin of the {sport} match in points.", "Margin in {sport}?",
            "What was the margin in the {sport} match?")}),
    Pattern("music", "{who} practises the {instrument} for {number} hours a day.", {
        "instrument": (
            "Which instrument does {who} practise?", "What instrument does {who} play?",
            "On which instrument does {who} practise?", "What does {who} practise every day?",
            "Which instrument does {who} learn?", "Name the instrument that {who} practises.",
            "Tell me what instrument {who} learns to play.", "Instrument of {who}?",
            "What does {who} learn to play?"),
        "number": (
            "How many hours does {who} practise?", "How many hours a day does {who} practise?",
            "For how many hours does {who} practise each day?", "How long does {who} practise every day?",
            "What is the number of hours that {who} practises?", "Count the hours that {who} practises.",
            "Tell me for how long {who} practises.", "Hours of practice a day by {who}?",
            "For how long does {who} practise each day?")}),
    Pattern("gardening", "{who} planted {number} rows of {plant} last {day}.", {
        "plant": (
            "What did {who} plant?", "Which plants did {who} put into the rows?", "What was planted by {who}?",
            "What kind of plant grows where {who} planted?", "What grows in the garden rows that {who} planted?",
            "Name what {who} planted.", "Tell me what {who} planted in rows.", "Plants of {who}?",
            "What grows in the rows of {who}?"),
        "number": (
            "How many rows did {who} plant?", "How many rows were planted by {who}?",
            "What is the number of rows of {who}?", "How many rows of plants did {who} make?",
            "What number of rows did {who} plant?", "Count the rows that {who} planted.",
            "Tell me how many rows {who} planted.", "Number of rows by {who}?",
            "What number of rows was planted by {who}?")}),
    Pattern("school", "The {subject} lesson of {who} starts at {time}.", {
        "subject": (
            "Which lesson does {who} have?", "What lesson does {who} have?", "Which subject does {who} have at school?",
            "What is {who} taught?", "In which subject is the lesson of {who}?", "Name the subject that {who} has.",
            "Tell me what subject {who} is learning.", "Subject of {who}?",
            "What subject is taught to {who}?"),
        "time": (
            "When does the lesson of {who} start?", "At what time does the lesson of {who} start?",
            "At which hour does {who} have the lesson?", "What is the time of the lesson of {who}?",
            "When does the teaching of {who} start?", "Name the hour at which the lesson of {who} begins.",
            "At what hour does the lesson of {who} begin?", "Time of the lesson of {who}?",
            "At what time does the teaching of {who} begin?")}),
    Pattern("household", "{who} left the {colour} {thing} in the {place}.", {
        "thing": (
            "What did {who} leave somewhere?", "What thing did {who} leave?", "Which object did {who} leave?",
            "What was left by {who}?", "What has {who} left lying?", "Name the object that {who} left.",
            "Tell me what {who} left.", "Object left by {who}?",
            "Which object was left by {who}?"),
        "colour": (
            "Which colour is the thing that {who} left?", "What is the colour of the thing that {who} left?",
            "Of which colour is the object that {who} left?", "What colour has the thing of {who}?",
            "In what colour is the object of {who}?", "Name the colour of what {who} left.",
            "Tell me which colour the object of {who} has.", "Colour of the thing left by {who}?",
            "What colour has the object of {who}?"),
        "place": (
            "Where did {who} leave the {thing}?", "Where is the {thing} of {who}?",
            "In which place did {who} leave the {thing}?", "In what place is the {thing} that {who} left?",
            "Where has {who} put the {thing}?", "Name the place of the {thing} that {who} left.",
            "Tell me where the {thing} of {who} is now.", "Place of the {thing} of {who}?",
            "In which place is the {thing} of {who}?")}),
    Pattern("shopping", "{who} bought {number} {colour} chairs at the {place} shop.", {
        "number": (
            "How many chairs did {who} buy?", "How many chairs were bought by {who}?",
            "What is the number of chairs that {who} bought?", "How many chairs does {who} have now?",
            "What number of chairs did {who} buy?", "Count the chairs that {who} bought.",
            "Tell me how many chairs {who} bought.", "Number of chairs bought by {who}?",
            "What number of chairs was bought by {who}?"),
        "colour": (
            "Which colour are the chairs of {who}?", "What colour are the chairs that {who} bought?",
            "Which colour did {who} choose?", "In what colour did {who} buy the chairs?",
            "What colour did the chairs have that {who} bought?", "Name the colour of the chairs of {who}.",
            "Tell me what colour {who} chose for the chairs.", "Colour of the chairs of {who}?",
            "What colour did {who} choose for the chairs?")}),
)  # fmt: skip
