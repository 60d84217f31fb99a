"""A run's student outside of Limbeck: written in a format, opened again, compared with the student, and then kept.

``exporting`` does all of it in this order; ``formats`` has the table of formats, ``program`` traces a student, ``scales``
proves that nothing scales the logits after the head, ``comparing`` runs both on examples of the test set, ``card`` writes the
model card. This room is not public: the command uses it. It may import ``inference`` and the rooms below it.
"""
