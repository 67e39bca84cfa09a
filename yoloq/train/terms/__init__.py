"""What a step of fine-tuning minimises: distances to a teacher, the loss on labels, their sum."""
